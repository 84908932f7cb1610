import { readFile } from 'node:fs/promises'
import pg from 'pg'
import type { Journal, JournalEntry, JournalEvent } from './journal.ts'

/** The kinds of violations, with their names in reports. Each count must be 0. */
export const violations = {
  /** Acknowledged intents without an effect. */
  lost: 'lost jobs',
  /** Jobs or effects of intents that were never invoked, or that were refused. */
  unexpected: 'unexpected jobs',
  /** Second and further jobs or effects of an intent. */
  duplicated: 'duplicate jobs or effects',
  /** Jobs that lack their domain row, their status row or one of their keys. */
  partial: 'partially written jobs',
  /** Jobs that have not ended, or whose status does not match their effect or their queue row. */
  wrongStatus: 'wrong statuses',
  /** Domain rows whose state does not follow from the status of their job. */
  disagreeing: 'disagreeing domain rows',
} as const

export type Violation = keyof typeof violations

/** The comparison of the client's journal with Postgres, after every job has ended. */
export interface CheckResult extends Record<Violation, number> {
  invoked: number
  acknowledged: number
  /** Intents that were stored although a request for them had an unknown outcome. */
  recovered: number
  /** Second and further executions of a job. */
  repeatedExecutions: number
  /** One sentence per violation, for the first {@link maxFindings} violations. */
  findings: string[]
}

const maxFindings = 20

interface TokenRow {
  token: string
  job_id: string
}

interface DomainRow extends TokenRow {
  state: string
}

interface JobRow {
  id: string
  status: string
  idempotency_key: string | null
  /** The first job in the chain of retries. If the job is not a retry, this is the job itself. */
  root: string
  /** Whether a schedule or the end of a batch has created the job, without a request and without `accept`. */
  is_scheduled: boolean
  /** Whether the job has settled and waited for its children. Its effect remains when they fail. */
  is_parent: boolean
  has_idempotency_key_row: boolean
  /** The job that has processed the idempotency key. */
  processed_by: string | null
  queue_state: string | null
}

export interface CheckOptions {
  journal: Journal
  /** The file in which handlers record each execution. */
  executions: string
  databaseUrl: string
  /** Selects the intents whose jobs have to fail. Every other intent has to succeed and to have an effect. */
  isExpectedToFail?: (token: string) => boolean
  /** Whether any job may fail or be canceled. */
  mayEndUnsuccessfully?: boolean
}

/** Compares the journal with Postgres. Call it after the faults have stopped and every job has ended. */
export async function check(options: CheckOptions): Promise<CheckResult> {
  const { journal, executions, databaseUrl } = options
  const intents = Map.groupBy(await journal.read(), ({ token }) => token)
  const database = await readDatabase(databaseUrl)
  const result: CheckResult = {
    ...{ invoked: intents.size, acknowledged: 0, recovered: 0 },
    ...{ lost: 0, unexpected: 0, duplicated: 0, partial: 0, wrongStatus: 0, disagreeing: 0 },
    ...{ repeatedExecutions: await countRepeatedExecutions(executions), findings: [] },
  }
  const report = (violation: Violation, finding: string, count = 1) => {
    result[violation] += count
    if (result.findings.length < maxFindings) result.findings.push(`${violations[violation]}: ${finding}`)
  }
  for (const [token, entries] of intents) checkIntent(token, entries, database, { result, report, options })
  for (const { token, job_id } of [...database.domain, ...database.effects]) {
    if (!intents.has(rootOf(token))) report('unexpected', `${token} (${job_id}) was never invoked`)
  }
  checkMembers(database, report)
  checkJobs(database, report)
  checkDomain(database, report)
  return result
}

/** The token of the intent that has caused a job. The tokens of the jobs that `settle` enqueues contain a slash. */
const rootOf = (token: string) => token.split('/')[0] as string

/** Checks the jobs that no request has enqueued: each of them has one domain row and at most one effect. */
function checkMembers({ domainByToken, effectsByToken }: DatabaseContents, report: Report): void {
  for (const [kind, byToken] of Object.entries({ 'domain rows': domainByToken, effects: effectsByToken })) {
    for (const [token, { length }] of byToken) {
      if (token.includes('/') && length > 1) report('duplicated', `${token} has ${length} ${kind}`, length - 1)
    }
  }
}

type Report = (violation: Violation, finding: string, count?: number) => void

function checkIntent(
  token: string,
  entries: readonly JournalEntry[],
  database: DatabaseContents,
  { result, report, options }: { result: CheckResult; report: Report; options: CheckOptions },
): void {
  const acknowledgedJobs = new Set(entries.flatMap(({ job }) => job ?? []))
  const has = (event: JournalEvent) => entries.some((entry) => entry.event === event)
  const domainCount = database.domainByToken.get(token)?.length ?? 0
  const effectCount = database.effectsByToken.get(token)?.length ?? 0
  const isStored = domainCount > 0 || effectCount > 0
  if (acknowledgedJobs.size > 0) result.acknowledged += 1
  if (acknowledgedJobs.size > 1) report('duplicated', `${token} was acknowledged as the jobs ${[...acknowledgedJobs]}`)
  if (domainCount > 1) report('duplicated', `${token} became ${domainCount} jobs`, domainCount - 1)
  if (effectCount > 1) report('duplicated', `${token} has ${effectCount} effects`, effectCount - 1)
  for (const id of acknowledgedJobs) {
    const status = database.jobs.get(id)?.status
    const isUnsuccessful = status === 'failed' || status === 'canceled'
    const isAsExpected = options.isExpectedToFail?.(token)
      ? status === 'failed'
      : effectCount > 0 || (options.mayEndUnsuccessfully && isUnsuccessful)
    if (!isAsExpected) report('lost', `${token} was acknowledged as ${id}, whose status is ${status ?? 'missing'}`)
  }
  if (has('unknown') && isStored) result.recovered += 1
  // A request without an outcome counts as unknown too: the client stopped before it could write the outcome.
  const outcomeCount = entries.filter(({ event }) => event !== 'invoked').length
  const hasEveryOutcome = outcomeCount === entries.length - outcomeCount
  const isRefused = !has('unknown') && acknowledgedJobs.size === 0 && hasEveryOutcome
  if (isRefused && isStored) report('unexpected', `${token} was refused (${entries.at(-1)?.reason}) but is stored`)
}

/** Checks that the rows of each job are consistent. */
function checkJobs({ domain, effects, jobs }: DatabaseContents, report: Report): void {
  const withEffect = new Set(effects.map(({ job_id }) => job_id))
  const withDomainRow = new Set(domain.map(({ job_id }) => job_id))
  for (const id of new Set([...withDomainRow, ...withEffect, ...jobs.keys()])) {
    const job = jobs.get(id)
    if (!job) {
      report('partial', `${id} has no status row`)
      continue
    }
    const hasEffect = withEffect.has(id)
    // A retry inherits the key only to pass the key on to other systems. It needs no row in idempotency_key.
    const needsIdempotencyKeyRow = !job.is_scheduled && job.root === id && job.idempotency_key !== null
    // The key of a parent whose children have failed is free again.
    const needsProcessedKey =
      job.idempotency_key !== null && hasEffect && (!job.is_parent || job.status === 'succeeded')
    const missing = [
      !job.is_scheduled && !withDomainRow.has(job.root) && 'its domain row',
      needsIdempotencyKeyRow && !job.has_idempotency_key_row && 'its idempotency key',
      needsProcessedKey && job.processed_by === null && 'its processed key',
    ].filter(Boolean)
    if (missing.length > 0) report('partial', `${id} (${job.status}) lacks ${missing.join(', ')}`)
    // The duplicate of a job succeeds without an effect of its own.
    const isProcessed = hasEffect || (job.processed_by !== null && withEffect.has(job.processed_by))
    const problem = findStatusProblem(job, { hasEffect, isProcessed })
    if (problem) report('wrongStatus', `${id} is ${job.status} ${problem}`)
  }
}

/** Checks that the state of each domain row is the outcome of its job, or of the last retry of its job. */
function checkDomain({ domain, jobs }: DatabaseContents, report: Report): void {
  const chains = Map.groupBy(jobs.values(), ({ root }) => root)
  for (const { job_id, state } of domain) {
    // Ids are in the order of creation.
    const chain = (chains.get(job_id) ?? []).toSorted((a, b) => (a.id < b.id ? -1 : 1))
    const expected = chain.some(({ status }) => status === 'succeeded') ? 'succeeded' : chain.at(-1)?.status
    if (state !== expected) report('disagreeing', `the row of ${job_id} is ${state}, but the job is ${expected}`)
  }
}

function findStatusProblem(
  { status, queue_state, is_parent }: JobRow,
  { hasEffect, isProcessed }: { hasEffect: boolean; isProcessed: boolean },
): string | undefined {
  const isPendingInQueue = ['created', 'retry', 'active'].includes(queue_state ?? '')
  if (isPendingInQueue) return `and still ${queue_state} in the queue`
  switch (status) {
    case 'succeeded':
      if (queue_state !== null) return `but its queue row, in state ${queue_state}, was not deleted`
      return isProcessed ? undefined : 'without its effect'
    case 'failed':
    case 'canceled':
      return hasEffect && !is_parent ? 'but has an effect' : undefined
    default:
      return 'and its queue row is not pending'
  }
}

async function countRepeatedExecutions(executions: string): Promise<number> {
  const ids = (await readFile(executions, 'utf8').catch(() => '')).split('\n').filter(Boolean)
  return ids.length - new Set(ids).size
}

interface DatabaseContents {
  domain: DomainRow[]
  effects: TokenRow[]
  domainByToken: Map<string, DomainRow[]>
  effectsByToken: Map<string, TokenRow[]>
  jobs: Map<string, JobRow>
}

async function readDatabase(databaseUrl: string): Promise<DatabaseContents> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const { rows: domain } = await client.query<DomainRow>('select token, job_id, state from domain')
    const { rows: effects } = await client.query<TokenRow>('select token, job_id from effect')
    const { rows: jobs } = await client.query<JobRow>(`
      with recursive lineage (id, root) as (
        select id, id from accepted.job where retry_of is null
        union all
        select job.id, root from lineage join accepted.job on job.retry_of = lineage.id
      )
      select
        job.id, job.status, job.idempotency_key, lineage.root, 
        job.principal = 'schedule' or job.batch is not null as is_scheduled, job.children is not null as is_parent,
        key.job_id is not null as has_idempotency_key_row, processed.job_id as processed_by,
        queue.state::text as queue_state
      from accepted.job
      join lineage using (id)
      left join accepted.idempotency_key key on key.principal = job.principal and key.key = job.idempotency_key
      left join accepted.processed_key processed
        on processed.operation = job.operation and processed.principal = job.principal
        and processed.key = job.idempotency_key
      left join accepted_queue.job queue on queue.name = job.operation and queue.id = job.id
      where job.operation like 'intent.%'`)
    return {
      ...{ domain, effects },
      domainByToken: Map.groupBy(domain, ({ token }) => token),
      effectsByToken: Map.groupBy(effects, ({ token }) => token),
      jobs: new Map(jobs.map((job) => [job.id, job])),
    }
  } finally {
    await client.end()
  }
}
