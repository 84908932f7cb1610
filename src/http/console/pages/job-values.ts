import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import { queueSchema } from '../../../queue/schema.ts'
import type { Service } from '../../service.ts'
import { section } from '../components.ts'
import { type Html, html } from '../html.ts'

const maxShownBytes = 64 * 1024

/** The payload and the result of a job as JSON. Null: there is none, or it is not kept. */
export interface JobValues {
  payload: string | null
  result: string | null
}

/**
 * Reads the payload and the result, with the rights of the API and by its rules: an operator may read the results of all
 * principals, and members that the operation seals stay sealed, except in the operator's own jobs. Leaves out values above
 * 64 KiB.
 */
export async function readValues(service: Service, request: FastifyRequest, id: string): Promise<JobValues> {
  const { rows } = await sql<JobValues & { operation: string; principal: string }>`
    select job.operation, job.principal,
      case when octet_length(value.payload) <= ${maxShownBytes} then value.payload end as payload,
      case when octet_length(value.result) <= ${maxShownBytes} then value.result end as result
    from accepted.job
    -- JavaScript would change large numbers.
    cross join lateral (select
      jsonb_pretty(coalesce(job.payload, (
        select data -> 'payload' from ${sql.id(queueSchema, 'job_common')} queued where queued.name = job.operation and queued.id = job.id
      ))) as payload,
      jsonb_pretty(job.result) as result
    ) value
    where job.id = ${id}`.execute(service.database.kysely)
  const [row] = rows
  if (!row) return { payload: null, result: null }
  const { payload, result, ...owned } = row
  return { payload, result: result === null ? null : service.results.showJson(owned, request.principal, result) }
}

/** Shows the payload and the result. */
export const valuesOf = ({ payload, result }: JobValues): Html =>
  html`${[['Payload', payload] as const, ['Result', result] as const].map(
    ([title, json]) =>
      json !== null &&
      section(title, html`<pre tabindex="0" role="region" aria-label="${title}">${json}</pre>`, {
        id: title.toLowerCase(),
      }),
  )}`
