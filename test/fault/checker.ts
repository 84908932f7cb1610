import { readFile } from 'node:fs/promises'
import pg from 'pg'
import type { Journal, Line } from './journal.ts'

/** What the client was told, compared with what is in Postgres once everything has ended. */
export interface Verdict {
  invoked: number
  acknowledged: number
  /** Acknowledged, and no effect. */
  lost: number
  /** An effect or a job that was never asked for, or of which the client was told that nothing was stored. */
  unexpected: number
  /** Effects beyond the first of an intent, and jobs beyond the first. */
  duplicated: number
  /** Some of domain row, status row, effect and key are missing. */
  partial: number
  /** Not terminal, or not matching the effect. */
  wrongStatus: number
  /** The outcome was unknown, and it was there. */
  recovered: number
  /** Executions beyond the first of a job. */
  duplicatedExecutions: number
  /** A sentence for each thing that must not be, the first few of each kind. */
  findings: string[]
}

interface Row {
  token: string
  job_id: string
}

interface JobRow {
  id: string
  state: string
  idempotency_key: string | null
  /** The job that the request became, when this one is a retry, or a retry of one. */
  root: string
  /** It came of a schedule: no request, no `accept`. */
  is_scheduled: boolean
  is_claimed: boolean
  /** The job that had the effect of the key. */
  processed_by: string | null
  is_queued: boolean
}

export interface CheckOptions {
  journal: Journal
  /** Where handlers record what they execute. */
  executions: string
  databaseUrl: string
  /** How these intents must end; default: succeeded, with their effect. */
  mustFail?: (token: string) => boolean
}

/** Compares. Call it when the faults have stopped and the queue is drained. */
export async function check({ journal, executions, databaseUrl, mustFail }: CheckOptions): Promise<Verdict> {
  const intents = Map.groupBy(await journal.read(), ({ token }) => token)
  const { domain, effects, jobs } = await readAll(databaseUrl)
  const verdict: Verdict = {
    ...{ invoked: intents.size, acknowledged: 0, lost: 0, unexpected: 0, duplicated: 0, partial: 0 },
    ...{ wrongStatus: 0, recovered: 0, duplicatedExecutions: 0, findings: [] },
  }
  const find = (kind: 'lost' | 'unexpected' | 'duplicated' | 'partial' | 'wrongStatus', what: string, count = 1) => {
    verdict[kind] += count
    if (verdict.findings.length < 20) verdict.findings.push(`${kind}: ${what}`)
  }
  const byToken = {
    domain: Map.groupBy(domain, ({ token }) => token),
    effects: Map.groupBy(effects, ({ token }) => token),
  }
  const withEffect = Map.groupBy(effects, ({ job_id }) => job_id)
  const withDomain = new Set(domain.map(({ job_id }) => job_id))

  for (const [token, lines] of intents) {
    const acknowledged = new Set(lines.flatMap(({ job }) => job ?? []))
    const is = (happening: Line['happening']) => lines.some((line) => line.happening === happening)
    const inDomain = byToken.domain.get(token) ?? []
    const itsEffects = byToken.effects.get(token) ?? []
    const isThere = inDomain.length > 0 || itsEffects.length > 0
    if (acknowledged.size > 0) verdict.acknowledged += 1
    if (acknowledged.size > 1) find('duplicated', `${token} was acknowledged as the jobs ${[...acknowledged]}`)
    if (inDomain.length > 1) find('duplicated', `${token} became ${inDomain.length} jobs`, inDomain.length - 1)
    if (itsEffects.length > 1) find('duplicated', `${token} has ${itsEffects.length} effects`, itsEffects.length - 1)
    for (const id of acknowledged) {
      const state = jobs.get(id)?.state
      const isAsItMust = mustFail?.(token) ? state === 'failed' : itsEffects.length > 0
      if (!isAsItMust) find('lost', `${token} was acknowledged as ${id}, which is ${state ?? 'not there'}`)
    }
    if (is('unknown') && isThere) verdict.recovered += 1
    // What was invoked and has no outcome is unknown as well: the client itself was stopped.
    const outcomes = lines.filter(({ happening }) => happening !== 'invoked').length
    const isRefused = !is('unknown') && acknowledged.size === 0 && outcomes === lines.length - outcomes
    if (isRefused && isThere) find('unexpected', `${token} was refused (${lines.at(-1)?.why}) and is there`)
  }
  for (const { token, job_id } of [...domain, ...effects]) {
    if (!intents.has(token)) find('unexpected', `${token} (${job_id}) was never invoked`)
  }

  for (const id of new Set([...withDomain, ...withEffect.keys(), ...jobs.keys()])) {
    const job = jobs.get(id)
    if (!job) {
      find('partial', `${id} has no status`)
      continue
    }
    const hasEffect = withEffect.has(id)
    const missing = [
      !job.is_scheduled && !withDomain.has(job.root) && 'its domain row',
      // A retry inherits the key that it passes on; what it came by itself is another.
      !job.is_scheduled && job.root === id && job.idempotency_key !== null && !job.is_claimed && 'its idempotency key',
      job.idempotency_key !== null && hasEffect && job.processed_by === null && 'its processed key',
    ].filter(Boolean)
    if (missing.length > 0) find('partial', `${id} (${job.state}) lacks ${missing.join(', ')}`)
    const isFinal = ['succeeded', 'failed', 'canceled'].includes(job.state)
    if (!isFinal || job.is_queued)
      find('wrongStatus', `${id} is ${job.state}, ${job.is_queued ? '' : 'not '}in the queue`)
    // A duplicate ends like the job that had the effect.
    const isEffective = hasEffect || (job.processed_by !== null && withEffect.has(job.processed_by))
    if (isFinal && (job.state === 'succeeded' ? !isEffective : hasEffect)) {
      find('wrongStatus', `${id} is ${job.state} ${hasEffect ? 'with' : 'without'} its effect`)
    }
  }
  verdict.duplicatedExecutions = await countDuplicates(executions)
  return verdict
}

async function countDuplicates(executions: string): Promise<number> {
  const ids = (await readFile(executions, 'utf8').catch(() => '')).split('\n').filter(Boolean)
  return ids.length - new Set(ids).size
}

async function readAll(databaseUrl: string) {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const { rows: domain } = await client.query<Row>('select token, job_id from domain')
    const { rows: effects } = await client.query<Row>('select token, job_id from effect')
    const { rows: jobs } = await client.query<JobRow>(`
      with recursive lineage (id, root) as (
        select id, id from accepted.job where retry_of is null
        union all
        select job.id, root from lineage join accepted.job on job.retry_of = lineage.id
      )
      select
        job.id, job.state, job.idempotency_key, lineage.root,
        job.principal = 'schedule' as is_scheduled, claimed.job_id is not null as is_claimed, processed.job_id as processed_by,
        coalesce(queue.state <= 'active', false) as is_queued
      from accepted.job
      join lineage using (id)
      left join accepted.idempotency_key claimed
        on claimed.principal = job.principal and claimed.key = job.idempotency_key
      left join accepted.processed_key processed
        on processed.operation = job.operation and processed.principal = job.principal
        and processed.key = job.idempotency_key
      left join pgboss.job queue on queue.name = job.operation and queue.id = job.id
      where job.operation like 'intent.%'`)
    return { domain, effects, jobs: new Map(jobs.map((job) => [job.id, job])) }
  } finally {
    await client.end()
  }
}
