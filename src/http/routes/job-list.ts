import type { FastifyInstance, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../../errors.ts'
import { listJobs } from '../../jobs/list.ts'
import { Monitor } from '../../jobs/monitor-schema.ts'
import { isOperator } from '../../scopes.ts'
import { visibleJobs } from '../access.ts'
import { findUnstorable } from '../protocol/json.ts'
import { monitorOf } from '../protocol/links.ts'
import { acceptsJson } from '../protocol/negotiate.ts'
import { queryOf } from '../protocol/request-target.ts'
import { bodyResponse, problemResponses } from '../protocol/schemas.ts'
import type { Service } from '../service.ts'

const maxPageSize = 100
const defaultPageSize = 20

const JobListQuery = Type.Object({
  status: Type.Optional(Type.Enum(['queued', 'running', 'succeeded', 'failed', 'canceled'])),
  operation: Type.Optional(Type.String({ description: 'The name of an operation' })),
  parent: Type.Optional(
    Type.String({ format: 'uuid', description: 'The id of a batch or job: lists only its children' }),
  ),
  principal: Type.Optional(
    Type.String({
      description: 'The owner of the jobs, or * for all owners; requires the scope operate. Default: the caller',
    }),
  ),
  limit: Type.Optional(
    Type.String({
      pattern: '^[1-9][0-9]{0,5}$',
      description: `Jobs per page: at most ${maxPageSize}, by default ${defaultPageSize}`,
    }),
  ),
  cursor: Type.Optional(Type.String({ description: 'The cursor from the nextLink of a page' })),
})

const JobSummary = Type.Omit(Monitor, ['result'], {
  title: 'JobSummary',
  description: 'The status of a job, without its result. `links.self` and `links.result` lead to the result.',
})

const JobListPage = Type.Object(
  {
    value: Type.Array(JobSummary),
    nextLink: Type.Optional(
      Type.String({ format: 'uri', description: 'The next page, with older jobs; absent on the last page' }),
    ),
  },
  { title: 'Jobs' },
)

/** Adds the route that lists the caller's jobs page by page, newest first. */
export function jobListRoute(app: FastifyInstance, service: Service): void {
  app.get<{ Querystring: Type.Static<typeof JobListQuery> }>(
    service.paths.jobs,
    {
      config: { action: 'read' },
      onRequest: acceptsJson,
      exposeHeadRoute: true,
      schema: {
        summary: 'List jobs, newest first',
        description:
          'With a filter, a page can have few jobs or none although more pages follow. A page also ends at 1 MiB. The ' +
          'last page has no nextLink.',
        operationId: 'listJobs',
        tags: ['jobs'],
        querystring: JobListQuery,
        response: {
          200: bodyResponse('A page of jobs', 'application/json', JobListPage, { headers: ['Link', 'Vary'] }),
          ...problemResponses('invalid-parameter'),
        },
      },
    },
    async (request, reply) => {
      const details = findUnstorable(request.query)
      if (details.length > 0) throw new ProblemError('invalid-parameter', undefined, { details })
      const { status, operation, parent, limit, cursor } = request.query
      const options = {
        principal: requestedPrincipal(request),
        operations: visibleJobs(request).operations,
        status,
        operation,
        parent,
        limit: Math.min(Number(limit ?? defaultPageSize), maxPageSize),
        before: cursor === undefined ? undefined : decodePageCursor(cursor),
      }
      const text = await service.largeAnswers.make(reply, async () => {
        const { jobs, next } = await listJobs(service.database.kysely, options)
        const nextLink = next && linkToNext(service, request, next)
        if (nextLink) reply.header('link', `<${nextLink}>; rel="next"`)
        const value = jobs.map((job) => monitorOf(service, request, job))
        return JSON.stringify({ value, ...(nextLink && { nextLink }) })
      })
      return reply
        .headers({ 'cache-control': 'private, no-cache', vary: 'Accept, Authorization' })
        .type('application/json; charset=utf-8')
        .send(text)
    },
  )
}

/**
 * Returns the owner of the jobs to list; undefined for all owners. Without a filter, the children of a parent that the
 * caller may see are listed, and otherwise the caller's own jobs.
 *
 * @throws ProblemError forbidden
 */
function requestedPrincipal(request: FastifyRequest): string | undefined {
  const { principal, parent } = request.query as Type.Static<typeof JobListQuery>
  if (principal === undefined) return parent === undefined ? request.principal : visibleJobs(request).principal
  if (!isOperator(request.scopes)) {
    throw new ProblemError('forbidden', 'The parameter principal requires the scope operate or admin')
  }
  return principal === '*' ? undefined : principal
}

function linkToNext(service: Service, request: FastifyRequest, id: string): string {
  const query = new URLSearchParams(queryOf(request))
  query.set('cursor', encodePageCursor(id))
  return `${service.siteOf(request).jobs}?${query}`
}

// The cursor is opaque: clients do not build cursors themselves, so the format can change.
const encodePageCursor = (id: string) => Buffer.from(id.replaceAll('-', ''), 'hex').toString('base64url')

function decodePageCursor(cursor: string): string {
  const hex = Buffer.from(cursor, 'base64url').toString('hex')
  if (hex.length !== 32 || encodePageCursor(hex) !== cursor) {
    throw new ProblemError('invalid-parameter', undefined, {
      details: [{ pointer: '/cursor', keyword: 'cursor', message: 'must be the cursor from the nextLink of a page' }],
    })
  }
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
