import { type Html, html } from './html.ts'

/** Formats a count for people: 12,345. */
export const count = (value: number | string | bigint | null | undefined): string =>
  Number(value ?? 0).toLocaleString('en-US')

const units = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min'],
] as const

/** Formats a duration for people: 12 ms, 3.4 s, 5 min 10 s, 2 d 3 h. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds < 0) return `−${duration(-seconds)}`
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1).replace(/\.0$/, '') : Math.round(seconds)} s`
  const index = units.findIndex(([size]) => seconds >= size)
  const [size, unit] = units[index] as (typeof units)[number]
  const [smaller, smallerUnit] = units[index + 1] ?? [1, 's']
  const whole = Math.floor(seconds / size)
  const rest = Math.floor((seconds - whole * size) / smaller)
  return rest > 0 ? `${whole} ${unit} ${rest} ${smallerUnit}` : `${whole} ${unit}`
}

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
