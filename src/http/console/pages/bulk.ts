import { sql, type Transaction } from 'kysely'
import type { Tables } from '../../../db/tables.ts'
import { ProblemError } from '../../../errors.ts'
import { actionForm, facts, section } from '../components.ts'
import { type ConsoleContext, Refusal } from '../context.ts'
import { count } from '../format.ts'
import { html } from '../html.ts'
import { type BulkAction, bulkActions, findJobs, type JobFilter, queryOf, readFilter } from '../job-filter.ts'
import type { ConsolePage } from '../page.ts'
import type { JobValues } from './job-values.ts'

/** The preview counts for at most this time and one step more. The job that follows has no such limit. */
const maxCountMs = 100
const maxCountedTogether = 500

const titles: Readonly<Record<BulkAction, readonly [title: string, button: string, effect: string]>> = {
  cancel: [
    'Cancel jobs',
    'Cancel them',
    'Queued jobs are canceled at once. The handlers of running jobs are asked to stop. This has no undo: to run canceled jobs again, retry them, each as a new job.',
  ],
  retry: [
    'Retry jobs',
    'Retry them',
    'Each failed or canceled job that has no retry yet runs again, as a new job. Undo, on the page of the job that does it, cancels the retries that have not ended.',
  ],
  redrive: [
    'Redrive failures',
    'Redrive them',
    'Each failed job that has no retry yet runs again, as a new job. Undo, on the page of the job that does it, cancels the retries that have not ended.',
  ],
  undo: [
    'Undo',
    'Cancel the retries',
    'The retries that have not ended are canceled. What other retries have done stays done.',
  ],
}

const isAction = (text: unknown): text is BulkAction => bulkActions.includes(text as BulkAction)

/** Changes all jobs that a filter finds: first a preview that counts them, then a job that does it. */
export const bulkPage: ConsolePage = {
  path: '/jobs/bulk',
  addRoutes(app, context) {
    app.get<{ Querystring: Record<string, string | undefined> }>('/jobs/bulk', async ({ query }, reply) => {
      const { filter, problem } = readFilter(query)
      if (problem !== undefined) throw new ProblemError('invalid-parameter', problem)
      if (!isAction(query.action)) throw new ProblemError('invalid-parameter', 'There is no such action')
      const { action } = query
      const [title, button, effect] = titles[action]
      const found = await context.read((trx) => countJobs(trx, filter, action))
      const number = found.isExact ? count(found.jobs) : `at least ${count(found.jobs)}`
      return context.send(reply, {
        title,
        above: html`<a href="${context.base}/jobs${queryOf(filter)}">Jobs</a>`,
        body: section(
          found.jobs === 0 && found.isExact
            ? 'There is nothing to do'
            : `This changes ${number} ${found.jobs === 1 ? 'job' : 'jobs'}`,
          html`<p>${effect}</p>${filterFacts(filter)}${
            (found.jobs > 0 || !found.isExact) &&
            actionForm({
              ...{ action: `${context.base}/jobs/bulk`, label: button, back: `${context.base}/jobs${queryOf(filter)}` },
              hidden: { ...filter, action },
              isDangerous: action === 'cancel' || action === 'undo',
            })
          }`,
        ),
      })
    })
    context.action(app, '/jobs/bulk', async (trx, { body, principal }) => {
      const { filter, problem } = readFilter(body)
      if (problem !== undefined) throw new Refusal(problem)
      const { rows } = await sql<{ id: string }>`
        select accepted.bulk(${body.action ?? ''}, ${JSON.stringify(filter)}::jsonb, ${principal}) as id`.execute(trx)
      return {
        notice: 'A job does it. This is its progress. Canceling it stops it; what it has done until then stays done.',
        to: `/jobs/${rows[0]?.id}`,
      }
    })
  },
}

const filterFacts = (filter: JobFilter) => {
  const entries = Object.entries(filter)
  return entries.length > 0 ? facts(entries) : html`<p><strong>There is no filter: all jobs match.</strong></p>`
}

async function countJobs(trx: Transaction<Tables>, filter: JobFilter, can: BulkAction) {
  const startedAt = performance.now()
  let jobs = 0
  let before: string | undefined
  do {
    const { ids, next } = await findJobs(trx, { ...filter, can }, { before, maxJobs: maxCountedTogether })
    jobs += ids.length
    if (next === null) return { jobs, isExact: true }
    before = next
  } while (performance.now() - startedAt < maxCountMs)
  return { jobs, isExact: false }
}

/** The link on the page of such a job that cancels the retries it has made. */
export function undoLink({ base }: ConsoleContext, id: string, { payload, result }: JobValues) {
  const json = result ?? payload
  if (json === null) return undefined
  const { action, filter } = JSON.parse(json) as { action: BulkAction; filter: JobFilter }
  if (action !== 'retry' && action !== 'redrive') return undefined
  return html`<a class="button" href="${base}/jobs/bulk${queryOf({ ...filter, since: id }, { action: 'undo' })}">Undo: cancel the retries…</a>`
}
