// The protocol between the bench and the processes that drain jobs.
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { ready } from '../core/module.ts'

export interface DrainLoad {
  /** Jobs that are queued when the clock starts. */
  jobs: number
  /** A contender that takes longer is stopped. Jobs that it has not completed by then do not count. */
  atMostSeconds: number
}

/** The number of completed jobs, and the rate between the first and the last completion. */
export interface Drained {
  completed: number
  perSecond: number
}

/** Each method executes a command of the bench. */
export interface Drainer {
  /** Deletes all jobs and enqueues new jobs. Does not run them yet. */
  fill(jobs: number): Promise<void>
  /** Runs the jobs until all of them have completed, but for at most `load.atMostSeconds`. */
  drain(load: DrainLoad): Promise<Drained>
}

export type DrainCommand = { fill: number } | { drain: DrainLoad }

/** Receives the commands of the bench in the process of a contender, and executes them. */
export function serveDrainer({ fill, drain }: Drainer): void {
  process.on('message', async (command: DrainCommand) => {
    if ('fill' in command) await fill(command.fill)
    process.send?.('fill' in command ? {} : await drain(command.drain))
  })
  ready()
}

/** The reply to a drain command may take this much longer than the drain itself. */
export const replyMarginSeconds = 60

const defaultPollIntervalMs = 100

/** Waits until a query returns no row. Waits for at most `atMostSeconds`. */
export async function waitUntilEmpty(
  url: string,
  text: string,
  atMostSeconds: number,
  pollIntervalMs = defaultPollIntervalMs,
): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const deadline = performance.now() + atMostSeconds * 1000
    while (performance.now() < deadline && (await client.query(text)).rowCount !== 0) await delay(pollIntervalMs)
  } finally {
    await client.end()
  }
}

/**
 * Computes from the jobs' rows how many jobs completed, and how many completed per second.
 *
 * @param completions a query that returns the time of each completion as `at`
 */
export async function drainRate(url: string, completions: string): Promise<Drained> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows } = await client
    .query<{
      completed: number
      later: number
      seconds: number
    }>(`select count(*)::float8 as completed, count(*) filter (where at > first)::float8 as later,
      extract(epoch from max(at) - min(at))::float8 as seconds
    from (select at, min(at) over () as first from (${completions}) as completions) as timed`)
    .finally(() => client.end())
  const { completed = 0, later = 0, seconds = 0 } = rows[0] ?? {}
  if (later === 0) throw new Error(`${completed} jobs completed, all at the same time: there is no rate to compute`)
  return { completed, perSecond: later / seconds }
}
