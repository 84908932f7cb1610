import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'
import type { Lane } from './lane.ts'
import type { Loop } from './loop.ts'
import { within } from './within.ts'

/** A lane with its loop. */
export interface RunningLane {
  lane: Lane
  loop: Loop
}

export interface SuspectsOptions {
  database: Database
  lanes: readonly RunningLane[]
  /** Aborts when nothing is begun any more. */
  draining: AbortSignal
  log: Logger
}

interface Suspect {
  operation: string
  queue_id: string
  job_id: string
  /** Seconds since the last crash. */
  waiting: number
}

/** How long suspects run before the others have a turn again, and the least that a process waits to be empty. In milliseconds. */
const turn = 5_000

/**
 * Makes the chore that runs suspects: jobs that a worker held when it fell silent. It empties the process, runs them one
 * after another, and lets the others go on after a while, so that neither keeps the other from running for long.
 */
export function createSuspects({ database, lanes, draining, log }: SuspectsOptions): () => Promise<void> {
  const byOperation = new Map(lanes.map((one) => [one.lane.operation.name, one]))
  const names = [...byOperation.keys()]
  let restUntil = 0

  const runAll = async (first: Suspect) => {
    const until = performance.now() + turn
    for (let next: Suspect | undefined = first; next && !draining.aborted; next = await findDue(database, names)) {
      const isRun = await runAlone(database, byOperation.get(next.operation) as RunningLane, next, log)
      if (!isRun || performance.now() > until) return
    }
  }

  return async () => {
    if (performance.now() < restUntil || draining.aborted) return
    const first = await findDue(database, names)
    if (!first) return
    try {
      const emptied = Promise.all(lanes.map(({ loop }) => loop.pause()))
      // The longer it has been waiting, the longer the others hold still for it.
      if (await within(emptied, Math.max(turn, first.waiting * 1000))) await runAll(first)
    } finally {
      restUntil = performance.now() + turn
      for (const { loop } of lanes) loop.resume()
    }
  }
}

async function findDue({ kysely }: Database, names: readonly string[]): Promise<Suspect | undefined> {
  const { rows } = await sql<Suspect>`
    select operation, queue_id, job_id, extract(epoch from now() - crashed_at)::float8 as waiting
    from accepted.suspect
    where operation = any(${names}) and exists (
      select from pgboss.job
      where name = operation and id = queue_id and blocked and state < 'active' and start_after <= now()
    )
    order by crashed_at limit 1`.execute(kysely)
  return rows[0]
}

/**
 * Runs a suspect in a process that holds nothing else. When it ends, whichever way, it was not the one that kills.
 *
 * @returns false when somebody else has it
 */
async function runAlone(
  { kysely }: Database,
  { lane, loop }: RunningLane,
  { queue_id, job_id }: Suspect,
  log: Logger,
): Promise<boolean> {
  const claim = await lane.claims.claimSuspect(queue_id)
  if (!claim) return false
  log.info({ job: job_id, operation: lane.operation.name }, 'Runs alone, as a worker fell silent with it before')
  if (await loop.run([claim])) await kysely.deleteFrom('accepted.suspect').where('job_id', '=', job_id).execute()
  return true
}
