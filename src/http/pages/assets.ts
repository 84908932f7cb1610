import { readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance } from 'fastify'

const types: Readonly<Record<string, string>> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
}

/** Returns the URL of a file in the directory `assets` of the package. */
export const assetUrl = (name: string): string =>
  new URL(`assets/${name}`, import.meta.resolve('accepted/package.json')).href

/**
 * Adds the route of a script or a style, because the Content-Security-Policy of the pages forbids inline code.
 *
 * @param file the URL of the file
 */
export async function assetRoute(app: FastifyInstance, path: string, file: string): Promise<void> {
  const content = await readFile(fileURLToPath(file))
  const headers = { 'content-type': types[extname(file)], 'cache-control': 'public, max-age=300' }
  app.get(path, { schema: { hide: true } }, async (_request, reply) => reply.headers(headers).send(content))
}
