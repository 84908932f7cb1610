import type { RowContext } from './row.ts'

/** Reports the requests that were answered with 500. Other refusals, such as 503, tell the client what to do. */
export const findServerErrors = (refusals: ReadonlyMap<string, number>): string[] =>
  [...refusals]
    .filter(([reason]) => reason.startsWith('500'))
    .map(([reason, count]) => `${count} requests were answered with ${reason}`)

/** Lists the outcomes of requests with their counts. */
export const countOutcomes = (...outcomes: ReadonlyMap<string, number>[]): string[] =>
  outcomes.flatMap((counts) => [...counts].map(([reason, count]) => `${count} × ${reason}`))

const watchCount = 3
const waitSeconds = 30

/** Watches some jobs by long poll. Reports each whose long poll does not return an ended job within `waitSeconds`. */
export async function findUnnoticedEnds({ apis }: RowContext): Promise<string[]> {
  const findings: string[] = []
  for (let n = 0; n < watchCount; n++) {
    const list = await fetch(`${apis[0]?.url}/jobs?limit=1`)
    const { value } = (await list.json()) as { value: { links: { self: string } }[] }
    const self = value[0]?.links.self
    if (!self) return ['There is no job to watch']
    const signal = AbortSignal.timeout((waitSeconds + 10) * 1000)
    const response = await fetch(self, { headers: { prefer: `wait=${waitSeconds}` }, signal })
    const { endedAt } = (await response.json()) as { endedAt?: string }
    if (!endedAt) findings.push(`A watcher did not learn the end of ${self} within ${waitSeconds} s`)
  }
  return findings
}
