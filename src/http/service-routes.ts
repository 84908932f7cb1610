import type { FastifyInstance } from 'fastify'
import type { Database } from '../db/database.ts'
import { assertMigrated } from '../db/migrate.ts'
import { ProblemError, problems } from '../errors.ts'
import { escapeHtml } from './html.ts'

/** Whether the process lives, and whether it can serve: Postgres answers, and the schema is the one it was built for. */
export function healthRoutes(app: FastifyInstance, database: Database): void {
  app.get('/health/live', { schema: { hide: true } }, async (_request, reply) =>
    reply.header('cache-control', 'no-store').send({ status: 'live' }),
  )
  app.get('/health/ready', { schema: { hide: true } }, async (_request, reply) => {
    await assertMigrated(database)
    return reply.header('cache-control', 'no-store').send({ status: 'ready' })
  })
}

/** The OpenAPI document, and a page for each problem code. */
export function documentRoutes(app: FastifyInstance): void {
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  app.get<{ Params: { code: string } }>('/docs/problems/:code', { schema: { hide: true } }, async (request, reply) => {
    const { code } = request.params
    if (!Object.hasOwn(problems, code)) throw new ProblemError('not-found', `There is no problem code '${code}'`)
    return reply.type('text/html; charset=utf-8').send(problemPage(code as keyof typeof problems))
  })
}

function problemPage(code: keyof typeof problems): string {
  const { status, title, remedy } = problems[code]
  const html = (text: string) => escapeHtml(text).replace(/`([^`]*)`/g, '<code>$1</code>')
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>${code}</title>
<h1>${code}</h1>
<p>${html(title)}. Answered with status ${status}.</p>
<p>${html(remedy)}</p>
<p><a href="/docs">API documentation</a></p>
</html>
`
}
