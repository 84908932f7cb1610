import type { FastifyInstance } from 'fastify'
import { type ProblemCode, ProblemError, problems } from '../../errors.ts'
import { describeEvents } from '../protocol/asyncapi.ts'
import { escapeHtml } from '../protocol/html.ts'
import type { Service } from '../service.ts'

/** Adds the routes of the OpenAPI document, the AsyncAPI document and the pages of the problem codes. */
export function docsRoutes(app: FastifyInstance, service: Service): void {
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  app.get('/asyncapi.json', { schema: { hide: true } }, async (request) => describeEvents(service.originOf(request)))
  app.get<{ Params: { code: string } }>('/docs/problems/:code', { schema: { hide: true } }, async (request, reply) => {
    const { code } = request.params
    if (!Object.hasOwn(problems, code)) throw new ProblemError('not-found', `There is no problem code '${code}'`)
    return reply.type('text/html; charset=utf-8').send(renderProblemPage(code as ProblemCode))
  })
}

function renderProblemPage(code: ProblemCode): string {
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
<p><a href="/docs">API documentation</a></p>
</html>
`
}
