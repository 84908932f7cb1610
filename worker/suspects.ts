import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'
import { pendingList } from '../src/jobs/state.ts'
import { handBack } from './hand-back.ts'
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
export function createSuspects(options: SuspectsOptions): () => Promise<void> {
  const { database, lanes, draining } = options
  const byOperation = new Map(lanes.map((one) => [one.lane.operation.name, one]))
  let restUntil = 0

  const runAll = async (first: Suspect) => {
    const until = performance.now() + turn
    for (let next: Suspect | undefined = first; next; next = await reserve(database, lanes)) {
      const isRun = await runAlone(options, byOperation.get(next.operation) as RunningLane, next)
      if (!isRun || draining.aborted || performance.now() > until) return
    }
  }

  return async () => {
    if (performance.now() < restUntil || draining.aborted) return
    const first = await reserve(database, lanes)
    if (!first) return
    const begunAt = performance.now()
    try {
      const emptied = Promise.all(lanes.map(({ loop }) => loop.pause()))
      if ((await within(emptied, first.patience * 1000)) && !draining.aborted) await runAll(first)
      else await reserveFor(database, first, 0)
    } finally {
      // The others get as much time as the suspects had.
      restUntil = performance.now() + Math.max(turn, performance.now() - begunAt)
      for (const { loop } of lanes) loop.resume()
    }
  }
}

/** After each so many seconds that a suspect has waited, one more process may stand back, up to half of them. */
const oneMoreAfter = 10

/** Finds a suspect that is due, for this process alone, as long as not too many others stand back. */
async function reserve(database: Database, lanes: readonly RunningLane[]): Promise<Suspect | undefined> {
  // By then the process is empty, whatever runs.
  const longest = Math.max(...lanes.map(({ lane }) => lane.operation.timeoutSeconds))
  const patience = sql`least(
    greatest(now() - crashed_at, make_interval(secs => ${turn / 1000})),
    make_interval(secs => ${longest}))`
  // Of each operation the oldest, and of these any: nobody's many keep the others' few from their turn.
  const { rows } = await sql<Suspect>`
    with standing_back as materialized (
      select
        count(*) as processes,
        (
          select greatest(count(*) / 2, 1) from pg_stat_activity
          where datname = current_database() and application_name = ${`${database.options.applicationName} listen`}
        ) as most
      from accepted.suspect where reserved_until > now()
    )
    update accepted.suspect set reserved_until = now() + ${patience}
    where job_id = (
      select job_id
      from standing_back, unnest(${lanes.map(({ lane }) => lane.operation.name)}::text[]) as ours (name)
      cross join lateral (
        select job_id from accepted.suspect
        where operation = name and reserved_until <= now()
          and crashed_at <= now() - processes * make_interval(secs => ${oneMoreAfter}) and exists (
            select from pgboss.job
            where name = ours.name and id = queue_id and blocked and state < 'active' and start_after <= now()
          )
        order by crashed_at limit 1 for update skip locked
      ) as oldest
      where processes < most
      order by random() limit 1
    )
    returning operation, queue_id, job_id, extract(epoch from ${patience})::float8 as patience`.execute(database.kysely)
  return rows[0]
}

async function reserveFor({ kysely }: Database, { job_id }: Suspect, seconds: number): Promise<void> {
  await sql`
    update accepted.suspect set reserved_until = now() + make_interval(secs => ${seconds})
    where job_id = ${job_id}`.execute(kysely)
}

/**
 * Runs a suspect in a process that holds nothing else. When it ends, whichever way, it was not the one that kills, and is
 * forgotten with its end.
 *
 * @returns false when somebody else has it, or the worker stops
 */
async function runAlone(
  { database, draining, log }: SuspectsOptions,
  { lane, loop }: RunningLane,
  suspect: Suspect,
): Promise<boolean> {
  const { operation } = lane
  const claim = await lane.claims.claimSuspect(suspect.queue_id)
  if (!claim) {
    // Its group is full, and may have room sooner than it is reserved for.
    await reserveFor(database, suspect, turn / 1000)
    return false
  }
  if (draining.aborted) {
    await handBack(lane, [claim])
    await reserveFor(database, suspect, 0)
    return false
  }
  log.info({ job: suspect.job_id, operation: operation.name }, 'Runs alone, as a worker fell silent with it before')
  // As long as it runs, a process stands back.
  await reserveFor(database, suspect, operation.timeoutSeconds + operation.heartbeatSeconds)
  const hasEnded = await loop.run([claim])
  // Unless it has been forgotten, it was handed back, or taken back from us.
  await reserveFor(database, suspect, 0)
  return hasEnded
}

/** Forgets suspects that have ended otherwise, canceled before their turn for example. */
export async function forgetEndedSuspects({ kysely }: Database): Promise<void> {
  await sql`
    delete from accepted.suspect
    where not exists (select from accepted.job where id = job_id and state in ${pendingList})`.execute(kysely)
}
