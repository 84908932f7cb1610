import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'
import { pendingList } from '../src/jobs/state.ts'
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
  /** How long a process stands back for it, in seconds: the longer it has been waiting, the longer. */
  patience: number
}

/** How long suspects run before the others have a turn again, and the least that a process stands back. In milliseconds. */
const turn = 5_000

/**
 * Makes the chore that runs suspects: jobs that a worker held when it fell silent. It empties the process, runs them one
 * after another, and lets the others go on after a while, so that neither keeps the other from running for long. One that
 * a process stands back for is left to it by the other processes.
 */
export function createSuspects({ database, lanes, draining, log }: SuspectsOptions): () => Promise<void> {
  const byOperation = new Map(lanes.map((one) => [one.lane.operation.name, one]))
  let restUntil = 0

  const runAll = async (first: Suspect) => {
    const until = performance.now() + turn
    for (let next: Suspect | undefined = first; next; next = await reserve(database, lanes)) {
      const isRun = await runAlone(database, byOperation.get(next.operation) as RunningLane, next, log)
      if (!isRun || draining.aborted || performance.now() > until) return
    }
  }

  return async () => {
    if (performance.now() < restUntil || draining.aborted) return
    const first = await reserve(database, lanes)
    if (!first) return
    try {
      const emptied = Promise.all(lanes.map(({ loop }) => loop.pause()))
      if ((await within(emptied, first.patience * 1000)) && !draining.aborted) await runAll(first)
      else await reserveFor(database, first, 0)
    } finally {
      restUntil = performance.now() + turn
      for (const { loop } of lanes) loop.resume()
    }
  }
}

/** After each so many seconds that a suspect has waited, one more process may stand back, so that the others go on. */
const oneMoreAfter = 10

/** Finds a suspect that is due, for this process alone, as long as not too many others stand back. */
async function reserve({ kysely }: Database, lanes: readonly RunningLane[]): Promise<Suspect | undefined> {
  const names = lanes.map(({ lane }) => lane.operation.name)
  // By then the process is empty, whatever runs.
  const longest = Math.max(...lanes.map(({ lane }) => lane.operation.timeoutSeconds))
  const patience = sql`least(
    greatest(now() - crashed_at, make_interval(secs => ${turn / 1000})),
    make_interval(secs => ${longest}))`
  const { rows } = await sql<Suspect>`
    update accepted.suspect set reserved_until = now() + ${patience}
    where job_id = (
      select job_id from accepted.suspect
      where operation = any(${names}) and reserved_until <= now() and exists (
        select from pgboss.job
        where name = operation and id = queue_id and blocked and state < 'active' and start_after <= now()
      ) and make_interval(secs => ${oneMoreAfter}) * (
        select count(*) from accepted.suspect other where other.reserved_until > now()
      ) <= now() - crashed_at
      order by crashed_at limit 1 for update skip locked
    )
    returning operation, queue_id, job_id, extract(epoch from ${patience})::float8 as patience`.execute(kysely)
  return rows[0]
}

async function reserveFor({ kysely }: Database, { job_id }: Suspect, seconds: number): Promise<void> {
  await sql`
    update accepted.suspect set reserved_until = now() + make_interval(secs => ${seconds})
    where job_id = ${job_id}`.execute(kysely)
}

/**
 * Runs a suspect in a process that holds nothing else. When it ends, whichever way, it was not the one that kills.
 *
 * @returns false when somebody else has it
 */
async function runAlone(
  database: Database,
  { lane, loop }: RunningLane,
  suspect: Suspect,
  log: Logger,
): Promise<boolean> {
  const { job_id, queue_id } = suspect
  const claim = await lane.claims.claimSuspect(queue_id)
  if (!claim) {
    // Its group is full, and may have room sooner than it is reserved for.
    await reserveFor(database, suspect, turn / 1000)
    return false
  }
  log.info({ job: job_id, operation: lane.operation.name }, 'Runs alone, as a worker fell silent with it before')
  // Unless we fell silent ourselves, and it was taken back from us.
  if (await loop.run([claim])) {
    await sql`
      delete from accepted.suspect
      where job_id = ${job_id} and not exists (
        select from pgboss.job where name = operation and id = queue_id and (blocked or state = 'active')
      )`.execute(database.kysely)
  }
  return true
}

/** Forgets suspects that have ended otherwise, canceled before their turn for example. */
export async function forgetEndedSuspects({ kysely }: Database): Promise<void> {
  await sql`
    delete from accepted.suspect
    where not exists (select from accepted.job where id = job_id and state in ${pendingList})`.execute(kysely)
}
