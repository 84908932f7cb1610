import { withoutRetryAfter } from './client.ts'
import type { RowContext } from './row.ts'

/**
 * Reports the requests that were answered with 500, or with 503 but without Retry-After. Other refusals are no findings:
 * clients can handle them.
 */
export const findServerErrors = (...outcomes: readonly ReadonlyMap<string, number>[]): string[] =>
  outcomes
    .flatMap((counts) => [...counts])
    .filter(([reason]) => reason.startsWith('500') || reason.endsWith(withoutRetryAfter))
    .map(([reason, count]) => `${count} requests were answered with ${reason}`)

/** Lists the outcomes of requests with their counts. */
export const countOutcomes = (...outcomes: ReadonlyMap<string, number>[]): string[] =>
  outcomes.flatMap((counts) => [...counts].map(([reason, count]) => `${count} × ${reason}`))

const longPollCount = 3
const longPollSeconds = 30
/** How much longer than `longPollSeconds` a response may take. */
const responseMarginSeconds = 10

/** Sends several long polls for the newest job. Reports each long poll that does not return an ended job. */
export async function findUnnoticedEnds({ apis }: RowContext): Promise<string[]> {
  const findings: string[] = []
  for (let n = 0; n < longPollCount; n++) {
    const list = await fetch(`${apis[0]?.url}/jobs?limit=1`)
    const { value } = (await list.json()) as { value: { links: { self: string } }[] }
    const self = value[0]?.links.self
    if (!self) return ['There is no job to watch']
    const signal = AbortSignal.timeout((longPollSeconds + responseMarginSeconds) * 1000)
    const response = await fetch(self, { headers: { prefer: `wait=${longPollSeconds}` }, signal })
    const { endedAt } = (await response.json()) as { endedAt?: string }
    if (!endedAt)
      findings.push(`The long poll of ${self} did not return the end of the job within ${longPollSeconds} s`)
  }
  return findings
}
