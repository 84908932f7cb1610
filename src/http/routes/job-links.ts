import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { createLink, tokenParameter } from '../job-link.ts'
import { findRequestedJob, JobParams } from '../protocol/find-job.ts'
import { ignoreBodies } from '../protocol/json.ts'
import { acceptsJson } from '../protocol/negotiate.ts'
import { bodyResponse, problemResponses } from '../protocol/schemas.ts'
import type { Service } from '../service.ts'

const JobLinks = Type.Object(
  {
    events: Type.String({ format: 'uri', description: 'The event stream of the job, for EventSource' }),
    page: Type.String({ format: 'uri', description: 'The live page of the job, for a browser' }),
    expiresAt: Type.String({ format: 'date-time' }),
  },
  { title: 'JobLinks' },
)

/** Adds the route that creates URLs which need no header, because a browser cannot send one. */
export function jobLinksRoute(app: FastifyInstance, service: Service): void {
  app.register(async (scope) => {
    ignoreBodies(scope)
    scope.post<{ Params: { id: string } }>(
      `${service.paths.jobs}/:id/links`,
      {
        config: { action: 'read' },
        onRequest: acceptsJson,
        schema: {
          summary: 'Create URLs that read a job for five minutes without a credential',
          description: 'These URLs permit reading this job, and nothing else. Keep them secret.',
          operationId: 'createJobLinks',
          tags: ['jobs'],
          params: JobParams,
          response: {
            201: bodyResponse('The URLs', 'application/json', JobLinks, { headers: ['Cache-Control'] }),
            ...problemResponses('not-found', 'job-expired'),
          },
        },
      },
      async (request, reply) => {
        const { id } = await findRequestedJob(service, request)
        const { principal, credentialExpiresAt } = request
        const keyId = service.usesKeys ? request.keyId : undefined
        const creator = { principal, keyId, credentialExpiresAt }
        const { token, expiresAt } = await createLink(service.database.kysely, id, creator)
        const page = `${service.siteOf(request).jobs}/${id}`
        const query = `?${tokenParameter}=${token}`
        return reply
          .code(201)
          .header('cache-control', 'no-store')
          .send({ events: `${page}/events${query}`, page: page + query, expiresAt: expiresAt.toISOString() })
      },
    )
  })
}
