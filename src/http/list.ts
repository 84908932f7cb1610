import type { FastifyInstance, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../errors.ts'
import { listJobs } from '../jobs/list.ts'
import { Monitor } from '../jobs/monitor.ts'
import { findUnstorable } from './json.ts'
import { monitorOf } from './links.ts'
import { acceptsJson } from './negotiate.ts'
import { withBody, withProblems } from './responses.ts'
import type { Service } from './service.ts'

const mostPerPage = 100
const defaultPerPage = 20

const Query = Type.Object({
  status: Type.Optional(Type.Enum(['queued', 'running', 'succeeded', 'failed', 'canceled'])),
  operation: Type.Optional(Type.String({ description: 'The name of an operation' })),
  limit: Type.Optional(
    Type.String({
      pattern: '^[1-9][0-9]{0,5}$',
      description: `Jobs on a page; ${defaultPerPage}, at most ${mostPerPage}`,
    }),
  ),
  cursor: Type.Optional(Type.String({ description: 'From nextLink' })),
})

const Page = Type.Object(
  {
    value: Type.Array(Monitor),
    nextLink: Type.Optional(
      Type.String({ format: 'uri', description: 'The next page, of older jobs; absent on the last' }),
    ),
  },
  { title: 'Jobs' },
)

/** The caller's jobs, newest first, page by page. */
export function listRoute(app: FastifyInstance, service: Service): void {
  app.get<{ Querystring: Type.Static<typeof Query> }>(
    '/jobs',
    {
      onRequest: acceptsJson,
      schema: {
        summary: 'Your jobs, newest first',
        description: 'A page that filters may be short, or empty, and still have a nextLink.',
        operationId: 'listJobs',
        tags: ['jobs'],
        querystring: Query,
        response: {
          200: withBody('A page', 'application/json', Page, { headers: ['Link', 'Vary'] }),
          ...withProblems('invalid-parameter'),
        },
      },
    },
    async (request, reply) => {
      const details = findUnstorable(request.query)
      if (details.length > 0) throw new ProblemError('invalid-parameter', undefined, { details })
      const { status, operation, limit, cursor } = request.query
      const { jobs, next } = await listJobs(service.database.kysely, {
        principal: request.principal,
        status,
        operation,
        limit: Math.min(Number(limit ?? defaultPerPage), mostPerPage),
        before: cursor === undefined ? undefined : decodeCursor(cursor),
      })
      const nextLink = next && linkToNext(service, request, next)
      reply.headers({ 'cache-control': 'private, no-cache', vary: 'Accept, Authorization' })
      if (nextLink) reply.header('link', `<${nextLink}>; rel="next"`)
      return reply.send({ value: jobs.map((job) => monitorOf(service, request, job)), ...(nextLink && { nextLink }) })
    },
  )
}

function linkToNext(service: Service, request: FastifyRequest, id: string): string {
  const url = new URL(request.url, service.originOf(request))
  url.searchParams.set('cursor', encodeCursor(id))
  return url.href
}

// Opaque, so that nobody builds one and it may mean something else one day.
const encodeCursor = (id: string) => Buffer.from(id.replaceAll('-', ''), 'hex').toString('base64url')

function decodeCursor(cursor: string): string {
  const hex = Buffer.from(cursor, 'base64url').toString('hex')
  if (hex.length !== 32 || encodeCursor(hex) !== cursor) {
    throw new ProblemError('invalid-parameter', undefined, {
      details: [{ pointer: '/cursor', keyword: 'cursor', message: 'must be the cursor of a nextLink' }],
    })
  }
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
