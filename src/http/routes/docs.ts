import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'
import { type ProblemCode, problems } from '../../problems.ts'
import { staticPageHeaders } from '../pages/layout.ts'
import { renderProblem, renderProblems } from '../pages/problem.ts'
import { describeEvents } from '../protocol/asyncapi.ts'
import { createDocument, type Document, sendDocument } from '../protocol/document.ts'
import { readDocument } from '../protocol/openapi.ts'
import { pageHeaders } from '../protocol/security-headers.ts'
import { besideDocs, problemPagesPath } from '../route-paths.ts'
import type { Service } from '../service.ts'

const json = 'application/json; charset=utf-8'
const yaml = 'application/x-yaml; charset=utf-8'

const problemPageHeaders = { ...staticPageHeaders, 'cache-control': 'public, max-age=300' }
/** The style of Swagger UI's logo, `.logo_small_svg__cls-2{…}`, is the only one that is not in a file. */
const logoStyleHash = "'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='"
const swaggerUiHeaders = pageHeaders(
  ...["script-src 'self'", `style-src 'self' ${logoStyleHash}`, "connect-src 'self'", "img-src 'self' data:"],
)

/** The AsyncAPI document contains the host that the client called. */
const maxRememberedHosts = 10

type Guard = (request: FastifyRequest) => Promise<void>

/**
 * Adds the pages of problem codes and, if the app wants them, the API documentation and its documents.
 *
 * @param guard refuses callers that may not read the documentation; problem pages are for all
 */
export async function docsRoutes(app: FastifyInstance, service: Service, guard: Guard): Promise<void> {
  const { docs } = service.paths
  const options = { hasDocs: docs !== false }
  const pages = problemPagesPath(service.paths)
  const hidden = { schema: { hide: true } }
  app.get(pages, hidden, async (_request, reply) => reply.headers(problemPageHeaders).send(renderProblems(options)))
  app.get<{ Params: { code: string } }>(`${pages}/:code`, hidden, async (request, reply) => {
    const { code } = request.params
    if (!Object.hasOwn(problems, code)) throw new ProblemError('not-found', `There is no problem code '${code}'`)
    return reply.headers(problemPageHeaders).send(renderProblem(code as ProblemCode, options))
  })
  if (!docs) return
  await app.register(async (scope) => {
    scope.addHook('onRequest', guard)
    await documentRoutes(scope, service, docs)
  })
}

// While there are no keys, these documents need no credential. So each document is serialised only once.
async function documentRoutes(app: FastifyInstance, service: Service, docs: string): Promise<void> {
  const openapi = once(() => createDocument(json, JSON.stringify(readDocument(app))))
  const openapiYaml = once(() => createDocument(yaml, readDocument(app, { yaml: true })))
  const asyncapis = new BoundedMap<Document>(maxRememberedHosts)
  const asyncapiFor = (request: FastifyRequest) => {
    const site = service.siteOf(request)
    const document =
      asyncapis.get(site.url) ?? createDocument(json, JSON.stringify(describeEvents(site, service.paths)))
    asyncapis.set(site.url, document)
    return document
  }
  const hidden = { schema: { hide: true } }
  app.get(besideDocs(docs, 'openapi.json'), hidden, async (request, reply) => sendDocument(request, reply, openapi()))
  app.get(besideDocs(docs, 'asyncapi.json'), hidden, async (request, reply) =>
    sendDocument(request, reply, asyncapiFor(request)),
  )
  await app.register(async (scope) => {
    scope.addHook('onRequest', async (_request, reply) => void reply.headers(swaggerUiHeaders))
    await scope.register(swaggerUi, {
      routePrefix: docs,
      indexPrefix: service.publicPath + service.prefix,
      uiHooks: {
        onRequest: async (request: FastifyRequest, reply: FastifyReply) => {
          const { url } = request.routeOptions
          if (url === `${service.prefix}${docs}/json`) return sendDocument(request, reply, openapi())
          if (url === `${service.prefix}${docs}/yaml`) return sendDocument(request, reply, openapiYaml())
          return undefined
        },
      } as never,
    })
  })
}

function once<Value>(create: () => Value): () => Value {
  let created: { value: Value } | undefined
  return () => {
    created ??= { value: create() }
    return created.value
  }
}
