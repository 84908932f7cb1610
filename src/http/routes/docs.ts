import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type ProblemCode, ProblemError, problems } from '../../errors.ts'
import { describeEvents } from '../protocol/asyncapi.ts'
import { escapeHtml } from '../protocol/html.ts'
import { readDocument } from '../protocol/openapi.ts'
import { besideDocs, problemPagesPath } from '../route-paths.ts'
import type { Service } from '../service.ts'

/** Adds the pages of problem codes and, if the app wants them, the API documentation and its documents. */
export async function docsRoutes(app: FastifyInstance, service: Service): Promise<void> {
  const { docs } = service.paths
  app.get<{ Params: { code: string } }>(
    `${problemPagesPath(service.paths)}/:code`,
    { schema: { hide: true } },
    async (request, reply) => {
      const { code } = request.params
      if (!Object.hasOwn(problems, code)) throw new ProblemError('not-found', `There is no problem code '${code}'`)
      return reply.type('text/html; charset=utf-8').send(renderProblemPage(code as ProblemCode, docs !== false))
    },
  )
  if (docs) await documentRoutes(app, service, docs)
}

async function documentRoutes(app: FastifyInstance, service: Service, docs: string): Promise<void> {
  const hidden = { schema: { hide: true } }
  app.get(besideDocs(docs, 'openapi.json'), hidden, async () => readDocument(app))
  app.get(besideDocs(docs, 'asyncapi.json'), hidden, async (request) =>
    describeEvents(service.siteOf(request), service.paths),
  )
  await app.register(swaggerUi, {
    routePrefix: docs,
    indexPrefix: service.publicPath + service.prefix,
    uiHooks: {
      onRequest: async (request: FastifyRequest, reply: FastifyReply) => {
        const { url } = request.routeOptions
        if (url === `${service.prefix}${docs}/json`) return reply.send(readDocument(app))
        if (url === `${service.prefix}${docs}/yaml`)
          return reply.type('application/x-yaml').send(readDocument(app, { yaml: true }))
        return undefined
      },
    } as never,
  })
}

function renderProblemPage(code: ProblemCode, hasDocs: boolean): string {
  const { status, title, remedy } = problems[code]
  const toHtml = (text: string) => escapeHtml(text).replace(/`([^`]*)`/g, '<code>$1</code>')
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>${code}</title>
<h1>${code}</h1>
<p>${toHtml(title)}. HTTP status ${status}.</p>
<p>${toHtml(remedy)}</p>
${hasDocs ? '<p><a href="../">API documentation</a></p>\n' : ''}</html>
`
}
