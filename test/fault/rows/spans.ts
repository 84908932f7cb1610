import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../../support/until.ts'
import type { Span } from '../app/handlers.ts'
import type { Place } from '../processes.ts'
import type { Stage } from '../stage.ts'

/** What handlers have recorded of their work so far, in the order of time. */
export async function readSpans({ directory }: Stage): Promise<Span[]> {
  const text = await readFile(join(directory, 'executions-spans'), 'utf8').catch(() => '')
  const spans = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Span)
  return spans.toSorted((one, other) => one.at - other.at)
}

/** Kills one of the workers that is at work; answers which process it was, and since when it does nothing any more. */
export async function killAtWork(stage: Stage, ...workers: readonly Place[]): Promise<{ pid: number; at: number }> {
  const { worker, pid } = await until(async () => {
    const spans = await readSpans(stage)
    for (const worker of workers) {
      const pid = worker.pid()
      const its = spans.filter((span) => span.pid === pid)
      if (pid && its.filter(({ what }) => what === 'begin').length > its.length / 2) return { worker, pid }
    }
    return undefined
  })
  const at = Number(process.hrtime.bigint())
  worker.signal('SIGKILL')
  return { pid, at }
}
