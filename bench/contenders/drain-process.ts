// What the processes do that drain jobs.
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { ready } from '../core/module.ts'

/** So many jobs wait when the clock starts. */
export interface DrainLoad {
  jobs: number
  /** Whoever has not drained them by then is stopped, and what has ended counts. */
  atMostSeconds: number
}

/** What was drained: the jobs that ended after the first ones did, by the time that took. */
export interface Drained {
  ended: number
  perSecond: number
}

/** A process that drains, by its commands. */
export interface Drainer {
  /** Puts jobs in place of whatever is there; none is worked on yet. */
  fill(jobs: number): Promise<void>
  /** Works until all have ended, or for so many seconds. */
  drain(load: DrainLoad): Promise<Drained>
}

export type DrainCommand = { fill: number } | { drain: DrainLoad }

/** Does, in the process of a peer, what the bench asks for. */
export function serveDrainer({ fill, drain }: Drainer): void {
  process.on('message', async (command: DrainCommand) => {
    if ('fill' in command) await fill(command.fill)
    process.send?.('fill' in command ? {} : await drain(command.drain))
  })
  ready()
}

/** How often somebody looks whether the end has come, in milliseconds. */
const lookEvery = 100

/**
 * Waits until a statement answers no row, or for so many seconds.
 *
 * @param every in milliseconds
 */
export async function untilNone(url: string, text: string, atMostSeconds: number, every = lookEvery): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const deadline = performance.now() + atMostSeconds * 1000
    while (performance.now() < deadline && (await client.query(text)).rowCount !== 0) await delay(every)
  } finally {
    await client.end()
  }
}

/**
 * How many jobs ended and how fast, as their rows say.
 *
 * @param ends a statement that answers the time of each end as `at`
 */
export async function drainedBy(url: string, ends: string): Promise<Drained> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows } = await client
    .query<{
      ended: number
      later: number
      seconds: number
    }>(`select count(*)::float8 as ended, count(*) filter (where at > first)::float8 as later,
      extract(epoch from max(at) - min(at))::float8 as seconds
    from (select at, min(at) over () as first from (${ends}) as ends) as timed`)
    .finally(() => client.end())
  const { ended = 0, later = 0, seconds = 0 } = rows[0] ?? {}
  if (later === 0) throw new Error(`Only ${ended} jobs ended, and all at once: that makes no rate`)
  return { ended, perSecond: later / seconds }
}
