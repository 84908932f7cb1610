import { sql, type Transaction } from 'kysely'
import type { JobStatus, Tables } from '../../db/tables.ts'
import { isUuid7 } from '../../jobs/read.ts'
import { pendingStatuses, transitions } from '../../jobs/status.ts'
import type { Field } from './components.ts'

/** Which jobs the list shows: the parameter of `accepted.find_jobs`. */
export interface JobFilter {
  status?: string | undefined
  operation?: string | undefined
  principal?: string | undefined
  error?: string | undefined
  resource?: string | undefined
  key?: string | undefined
  parent?: string | undefined
  from?: string | undefined
  to?: string | undefined
  /** Whether the jobs have a retry that was not canceled: true or false. */
  retried?: string | undefined
  /** For undo: the job whose retries are canceled. */
  since?: string | undefined
}

const names = [
  ...(['status', 'operation', 'principal', 'error', 'resource', 'key', 'parent', 'from', 'to', 'retried'] as const),
  'since',
] as const

const statuses = Object.keys(transitions) as JobStatus[]

/** What a person has asked for: a filter, or what is wrong with it. */
export interface AskedFilter {
  filter: JobFilter
  /** What is wrong. */
  problem?: string
}

/** Returns the value of a parameter. Of several values with one name, the last counts. Empty if there is none. */
export const lastText = (given: unknown): string => `${[given ?? ''].flat().at(-1)}`.trim()

/** Reads a filter from the query of a URL or from a form. Times are UTC. Empty values do not restrict the jobs. */
export function readFilter(given: Readonly<Record<string, unknown>>): AskedFilter {
  const texts = names.map((name) => [name, lastText(given[name])] as const)
  const filter: JobFilter = Object.fromEntries(texts.filter(([, text]) => text !== ''))
  const { status, parent, retried, since } = filter
  if (status !== undefined && !statuses.includes(status as JobStatus)) {
    return { filter: {}, problem: `The status must be one of ${statuses.join(', ')}.` }
  }
  if (parent !== undefined && !isUuid7(parent)) return { filter: {}, problem: 'The parent must be the id of a job.' }
  if (retried !== undefined && retried !== 'true' && retried !== 'false') {
    return { filter: {}, problem: 'Retried must be true or false.' }
  }
  if (since !== undefined && !isUuid7(since)) return { filter: {}, problem: 'There is no such job to undo.' }
  for (const name of ['from', 'to'] as const) {
    const text = filter[name]
    if (text === undefined) continue
    const at = new Date(/Z|[+-]\d\d:?\d\d$/.test(text) ? text : `${text}Z`)
    if (Number.isNaN(at.getTime()) || at.getUTCFullYear() < 1970 || at.getUTCFullYear() > 9999) {
      return { filter: {}, problem: `The time '${text}' must look like 2027-02-14T12:00.` }
    }
    filter[name] = at.toISOString()
  }
  return { filter }
}

/** Makes the query of the URL of a filter. */
export const queryOf = (filter: JobFilter, more: Readonly<Record<string, string | undefined>> = {}): string => {
  const entries = Object.entries({ ...filter, ...more }).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  )
  return entries.length > 0 ? `?${new URLSearchParams(entries)}` : ''
}

const retriedChoices = [
  ['', 'any'],
  ['true', 'yes'],
  ['false', 'no'],
] as const

/** The inputs of the filter. */
export const filterFields = (filter: JobFilter, operations: readonly string[]): Field[] => [
  { name: 'status', label: 'Status', value: filter.status, choices: [['', 'any'], ...statuses] },
  { name: 'operation', label: 'Operation', value: filter.operation, choices: [['', 'any'], ...operations] },
  { name: 'principal', label: 'Principal', value: filter.principal, type: 'search' },
  { name: 'error', label: 'Error code', value: filter.error, type: 'search' },
  { name: 'id', label: 'Job id', type: 'search' },
  { name: 'key', label: 'Idempotency key', value: filter.key, type: 'search' },
  { name: 'resource', label: 'Resource', value: filter.resource, type: 'search', placeholder: '/todos/1' },
  { name: 'parent', label: 'Parent', value: filter.parent, type: 'search' },
  { name: 'retried', label: 'Retried', value: filter.retried, choices: retriedChoices },
  { name: 'from', label: 'Accepted from (UTC)', value: filter.from?.slice(0, 16), type: 'datetime-local' },
  { name: 'to', label: 'Accepted before (UTC)', value: filter.to?.slice(0, 16), type: 'datetime-local' },
]

/** What `accepted.bulk` does with all jobs of a filter. */
export const bulkActions = ['cancel', 'retry', 'redrive', 'undo'] as const

export type BulkAction = (typeof bulkActions)[number]

/** Returns which of the actions can change jobs that the filter finds. */
export const actionsFor = ({ status }: JobFilter): BulkAction[] => [
  ...(status === undefined || pendingStatuses.includes(status as JobStatus) ? ['cancel' as const] : []),
  ...(status === undefined || status === 'canceled' ? ['retry' as const] : []),
  ...(status === undefined || status === 'failed' ? ['redrive' as const] : []),
]

export interface FoundJobs {
  ids: string[]
  /** The `before` of the next call. Null: there are no more jobs. */
  next: string | null
}

/** Finds jobs, the newest first. Reads a bounded number of rows, so it may find fewer although there are more. */
export async function findJobs(
  trx: Transaction<Tables>,
  filter: JobFilter & { can?: BulkAction },
  { before, maxJobs }: { before?: string | undefined; maxJobs: number },
): Promise<FoundJobs> {
  const { rows } = await sql<FoundJobs>`
    select job_ids as ids, next_before as next
    from accepted.find_jobs(${JSON.stringify(filter)}::jsonb, ${before ?? null}::uuid, ${maxJobs}::integer)`.execute(
    trx,
  )
  return rows[0] as FoundJobs
}
