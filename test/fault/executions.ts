import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../support/until.ts'
import type { Span } from './app/handlers.ts'
import type { RowContext } from './row.ts'
import type { SupervisedProcess } from './supervised-process.ts'

const read = (path: string) => readFile(path, 'utf8').catch(() => '')

/** Counts the executions that have started. */
export const countExecutions = async ({ directory }: RowContext): Promise<number> =>
  (await read(join(directory, 'executions'))).split('\n').length - 1

/** Reads the spans that handlers have recorded so far, ordered by time. */
export async function readSpans({ directory }: RowContext): Promise<Span[]> {
  const lines = (await read(join(directory, 'executions-spans'))).split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line) as Span).toSorted((one, other) => one.atNs - other.atNs)
}

/**
 * Kills one of the workers while a handler runs in it.
 *
 * @returns the pid, and the time of the kill on the same clock as {@link Span}
 */
export async function killBusyWorker(
  context: RowContext,
  ...workers: readonly SupervisedProcess[]
): Promise<{ pid: number; atNs: number }> {
  const { worker, pid } = await until(async () => {
    const spans = await readSpans(context)
    for (const worker of workers) {
      const pid = worker.pid()
      const own = spans.filter((span) => span.pid === pid)
      const begun = own.filter(({ event }) => event === 'begin').length
      if (pid && begun > own.length - begun) return { worker, pid }
    }
    return undefined
  })
  const atNs = Number(process.hrtime.bigint())
  worker.signal('SIGKILL')
  return { pid, atNs }
}
