import { duration } from '../pages/duration.ts'
import { type Html, html } from './html.ts'

const numbers = new Intl.NumberFormat('en-US')

/** Formats a count for people: 12,345. */
export const count = (value: number | string | bigint | null | undefined): string => numbers.format(Number(value ?? 0))

const utc = (at: Date) => `${at.toISOString().slice(0, 19).replace('T', ' ')} UTC`

/** Shows a time as UTC. */
export const time = (at: Date | null | undefined): Html =>
  at ? html`<time datetime="${at.toISOString()}">${utc(at)}</time>` : html`–`

/** Shows how long ago, or in how long, a time is. The time itself is in the title. */
export function ago(at: Date | null | undefined, now = Date.now()): Html {
  if (!at) return html`–`
  const seconds = (now - at.getTime()) / 1000
  const whole = Math.round(seconds)
  const text = whole === 0 ? 'now' : whole > 0 ? `${duration(whole)} ago` : `in ${duration(-whole)}`
  return html`<time datetime="${at.toISOString()}" title="${utc(at)}">${text}</time>`
}
