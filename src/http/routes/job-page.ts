import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Job } from '../../jobs/job.ts'
import { listJobs } from '../../jobs/list.ts'
import { batchName } from '../../operation.ts'
import { uuid7 } from '../../primitives/uuid.ts'
import { permits } from '../../scopes.ts'
import { visibleJobs } from '../access.ts'
import { linkTokenOf, tokenParameter } from '../job-link.ts'
import { assetRoute, assetUrl } from '../pages/assets.ts'
import { type JobAction, type ListedChild, renderJobPage } from '../pages/job.ts'
import { findRequestedJob, type JobRequest } from '../protocol/find-job.ts'
import { monitorOf, retryAfterOf } from '../protocol/links.ts'
import { pageHeaders } from '../protocol/security-headers.ts'
import type { RoutePaths } from '../route-paths.ts'
import type { Service } from '../service.ts'

const maxListedChildren = 20

const loads = ["script-src 'self'", "style-src 'self'", "connect-src 'self'"]
/** The page loads files only from its own origin. It runs no inline scripts, and no other page can embed it. */
const headers = {
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'private, no-cache',
  ...pageHeaders(...loads),
}
const headersWithForms = {
  ...headers,
  ...pageHeaders(...loads, "form-action 'self'"),
  // With no-referrer, the forms would have the origin `null`.
  'referrer-policy': 'same-origin',
}

/** Adds the routes of the page's script and styles, and of the client for the app's own pages. */
export async function jobPageAssetRoutes(app: FastifyInstance, { paths }: Service): Promise<void> {
  for (const name of ['job.css', 'job.js']) await assetRoute(app, `${paths.docs || paths.jobs}/${name}`, assetUrl(name))
  await assetRoute(app, `${paths.jobs}/client.js`, assetUrl('client.js'))
}

/**
 * Answers with the live page of a job. If scripts are disabled, the page reloads itself until the job ends. The
 * interval is Retry-After, but at least 2 s and at most 10 s.
 */
export async function sendJobPage(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  const job = await findRequestedJob(service, request)
  const retryAfter = retryAfterOf(service, job)
  const { 'retry-after': seconds } = retryAfter
  const actions = actionsOf(service, request, job)
  const page = renderJobPage(monitorOf(service, request, job), {
    assets: linkToAssets(service.paths),
    query: linkQueryOf(request),
    refreshSeconds: seconds && Math.min(Math.max(seconds, 2), 10),
    actions,
    retryKey: uuid7(),
    children: await listChildren(service, request, job),
    linksToJobs: request.linkedJobId === undefined,
  })
  return reply.headers({ ...(actions.length > 0 ? headersWithForms : headers), ...retryAfter }).send(page)
}

/** Returns what the caller may do with the job. The link to a page permits only reading. */
function actionsOf({ operations }: Service, { scopes, linkedJobId }: FastifyRequest, { operation }: Job): JobAction[] {
  if (linkedJobId !== undefined) return []
  const mayRetry = permits(scopes, 'retry') && operation !== batchName && operations.has(operation)
  return [...(permits(scopes, 'cancel') ? (['cancel'] as const) : []), ...(mayRetry ? (['retry'] as const) : [])]
}

/** Reads the newest children of a job, if the caller may see other jobs than this one. */
async function listChildren(
  { database }: Service,
  request: FastifyRequest,
  { id, children }: Job,
): Promise<ListedChild[] | undefined> {
  if (!children || request.linkedJobId !== undefined) return undefined
  const { principal, operations } = visibleJobs(request)
  const options = { principal, operations, parent: id, limit: maxListedChildren }
  return (await listJobs(database.kysely, options)).jobs
}

/** A page that was opened with the token of a link passes the token on. */
function linkQueryOf(request: FastifyRequest): string {
  return request.linkedJobId === undefined ? '' : `?${tokenParameter}=${encodeURIComponent(`${linkTokenOf(request)}`)}`
}

const linkToAssets = ({ docs, jobs }: RoutePaths): string =>
  docs ? `${'../'.repeat(jobs.split('/').length - 1)}${docs.slice(1)}/` : ''
