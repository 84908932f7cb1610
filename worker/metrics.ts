import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Database } from '../src/db/database.ts'
import { createRegistry } from '../src/metrics.ts'

/**
 * What an attempt came to. `retried` is back in the queue, charged or not; `handed_back` is what a stop interrupted;
 * `taken_back` is one of another worker that fell silent; `lost` is one whose claim was not ours any more, so that what it
 * did was rolled back.
 */
export type Outcome = 'succeeded' | 'failed' | 'retried' | 'canceled' | 'handed_back' | 'taken_back' | 'lost'

/** How many attempts came to what. */
export type Outcomes = Partial<Record<Outcome, number>>

/** What a worker counts. */
export interface Metrics {
  countOutcomes(operation: string, outcomes: Outcomes): void
  /** So many jobs ran so long, each, in seconds. */
  observeRun(operation: string, seconds: number, jobs: number): void
  /** A job was claimed so long after it was due, in seconds. */
  observeWait(operation: string, seconds: number): void
  /** A transaction runs again: it lost a race, Postgres was away, or a batch of jobs failed and is taken apart. */
  countRetry(operation: string, reason: 'contention' | 'outage' | 'bisected'): void
  /** Everything, in Prometheus' text format. */
  text(): Promise<string>
}

export interface MetricsOptions {
  operations: readonly string[]
  /** How many jobs of an operation are in our hands. */
  running(operation: string): number
  isListening(): boolean
}

/** How long a look at the backlog serves, and how long a scrape waits for a new one, in milliseconds. */
const backlogFreshFor = 5_000
const backlogWithin = 1_000

/** Makes the metrics of a worker. */
export function createMetrics(database: Database, options: MetricsOptions): Metrics {
  const { registers, gauge, text } = createRegistry(database.pool)
  const labelNames = ['operation']
  const outcomes = new Counter({
    name: 'accepted_attempts_total',
    help: 'Attempts that ended, by what they came to',
    labelNames: ['operation', 'outcome'],
    registers,
  })
  const runs = new Histogram({
    name: 'accepted_attempt_duration_seconds',
    help: 'Time from the begin of an attempt to its end, settled or failed',
    labelNames,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600],
    registers,
  })
  const waits = new Histogram({
    name: 'accepted_job_wait_seconds',
    help: 'Time from when a job was due to its claim',
    labelNames,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600],
    registers,
  })
  const retries = new Counter({
    name: 'accepted_transactions_retried_total',
    help: 'Transactions that ran again: after a lost race, an outage, or in parts because a batch failed',
    labelNames: ['operation', 'reason'],
    registers,
  })
  const { operations } = options
  new Gauge({
    name: 'accepted_jobs_running',
    help: 'Jobs in the hands of this process',
    labelNames,
    registers,
    collect() {
      for (const operation of operations) this.set({ operation }, options.running(operation))
    },
  })
  gauge('accepted_listener_up', 'Whether hints are heard; else the polls find the work', () => +options.isListening())
  const lookAtBacklog = backlogGauges(database, operations, registers)

  return {
    countOutcomes(operation, counted) {
      for (const [outcome, jobs] of Object.entries(counted)) outcomes.inc({ operation, outcome }, jobs)
    },
    observeRun(operation, seconds, jobs) {
      for (let job = 0; job < jobs; job++) runs.observe({ operation }, seconds)
    },
    observeWait: (operation, seconds) => waits.observe({ operation }, seconds),
    countRetry: (operation, reason) => retries.inc({ operation, reason }),
    async text() {
      await lookAtBacklog()
      return text()
    },
  }
}

interface Backlog {
  operation: string
  ready: number
  age: number
}

/**
 * Makes the gauges of what waits, and answers what brings them up to date: at most every few seconds, however often we
 * are scraped, and without a Postgres that answers in time they are left out.
 */
function backlogGauges(database: Database, operations: readonly string[], registers: Registry[]): () => Promise<void> {
  const labelNames = ['operation']
  const ready = new Gauge({
    name: 'accepted_jobs_ready',
    help: 'Jobs that are due and wait, of all workers; counted every 15 seconds',
    labelNames,
    registers,
  })
  const age = new Gauge({
    name: 'accepted_oldest_ready_job_age_seconds',
    help: 'How long the oldest of the next thousand jobs in line has been due; 0 when none is',
    labelNames,
    registers,
  })
  let looking: Promise<void> | undefined
  let lookedAt = Number.NEGATIVE_INFINITY
  const forget = () => {
    ready.reset()
    age.reset()
  }
  const look = async () => {
    try {
      for (const { operation, ...found } of await readBacklog(database, operations)) {
        ready.set({ operation }, found.ready)
        age.set({ operation }, found.age)
      }
      lookedAt = performance.now()
    } catch {
      forget()
    }
    looking = undefined
  }
  return async () => {
    if (performance.now() - lookedAt < backlogFreshFor) return
    looking ??= look()
    const late = delay(backlogWithin, 'late', { ref: false })
    if ((await Promise.race([looking, late])) === 'late') forget()
  }
}

/**
 * The number is the one that pg-boss keeps in its queue's row, which costs nothing to read. No index has the oldest; the
 * next in line are at the head of the one that the claims use.
 */
async function readBacklog({ kysely }: Database, operations: readonly string[]): Promise<Backlog[]> {
  const { rows } = await sql<Backlog>`
    select
      queue.name as operation, queue.ready_count as ready,
      coalesce(greatest(extract(epoch from now() - oldest.start_after), 0), 0)::float8 as age
    from pgboss.queue
    left join lateral (
      select min(start_after) as start_after
      from (
        select start_after from pgboss.job
        where job.name = queue.name and job.state < 'active' and not job.blocked and job.start_after <= now()
        order by job.priority desc, job.created_on
        limit 1000
      ) as next
    ) as oldest on true
    where queue.name = any(${operations})`.execute(kysely)
  return rows
}
