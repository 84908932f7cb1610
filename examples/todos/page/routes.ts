import { readFile } from 'node:fs/promises'
import type { FastifyPluginAsync } from 'fastify'

const files = {
  '/': { file: 'index.html', type: 'text/html; charset=utf-8' },
  '/page.js': { file: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/page.css': { file: 'page.css', type: 'text/css; charset=utf-8' },
}

/** The page loads its own files and talks to this API, and nothing else. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

export const pageRoutes: FastifyPluginAsync = async (app) => {
  for (const [url, { file, type }] of Object.entries(files)) {
    const content = await readFile(new URL(file, import.meta.url))
    app.get(url, { schema: { hide: true } }, async (_request, reply) => {
      reply.headers({ 'content-security-policy': policy, 'x-content-type-options': 'nosniff' })
      return reply.type(type).send(content)
    })
  }
}
