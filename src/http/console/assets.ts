import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance } from 'fastify'

const ours = (name: string) =>
  join(dirname(fileURLToPath(import.meta.resolve('accepted/package.json'))), 'assets', name)
const ofChartLibrary = (name: string) => join(dirname(fileURLToPath(import.meta.resolve('uplot'))), name)

const types = { js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8' } as const

/** The files that the pages load, because the Content-Security-Policy forbids inline code, and where they are. */
const files: readonly (readonly [name: string, type: string, path: (name: string) => string])[] = [
  ['console.css', types.css, ours],
  ['console.js', types.js, ours],
  ['console-charts.js', types.js, ours],
  ['uPlot.esm.js', types.js, ofChartLibrary],
  ['uPlot.min.css', types.css, ofChartLibrary],
]

/** Adds the routes of the scripts and styles. Each file is read when it is first needed. */
export function assetRoutes(app: FastifyInstance): void {
  for (const [name, type, path] of files) {
    let content: Promise<Buffer> | undefined
    app.get(`/assets/${name}`, async (_request, reply) => {
      content ??= readFile(path(name))
      return reply.headers({ 'content-type': type, 'cache-control': 'public, max-age=300' }).send(await content)
    })
  }
}
