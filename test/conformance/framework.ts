import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import type { Accepted } from 'accepted'
import { createHandler, type Handler } from 'accepted/http'
import express from 'express'
import { Hono } from 'hono'
import type { Kysely } from 'kysely'
import { pino } from 'pino'
import type { Test } from 'tap'
import { asRole } from '../support/database.ts'
import type { Program } from '../support/program.ts'
import acceptedConfig from './app/accepted.config.ts'
import type { Tables } from './app/operations.ts'

/** The frameworks in which the conformance tests can run, instead of `accepted api`. */
export type Framework = 'express' | 'hono'

const readNote = ({ db }: Accepted, id: string) =>
  (db as Kysely<Tables>).selectFrom('note').selectAll().where('id', '=', id).executeTakeFirst()

const serverOf: Readonly<Record<Framework, (handler: Handler) => Server>> = {
  /** Every request passes as a `Request`, and every response as a `Response`. */
  hono(handler) {
    const app = new Hono()
    app.get('/notes/:id', async (context) => {
      const note = await readNote(await handler.ready(), context.req.param('id'))
      return note ? context.json(note) : handler(context.req.raw)
    })
    app.all('*', (context) => handler(context.req.raw))
    return createAdaptorServer({ fetch: app.fetch }) as Server
  },
  express(handler) {
    const app = express()
    app.get('/notes/:id', async (request, response, next) => {
      const note = await readNote(await handler.ready(), request.params.id)
      if (note) response.json(note)
      else next()
    })
    app.use(handler.node)
    return createServer(app)
  },
}

/** Serves the operations of the conformance tests in a framework, within this process. */
export async function startFramework(t: Test, framework: Framework, databaseUrl: string): Promise<Program> {
  const { operations, authenticate } = acceptedConfig
  const handler = createHandler({
    ...{ operations, ...(authenticate && { authenticate }), database: asRole(databaseUrl, 'api') },
    ...{ routes: { docs: '/docs' }, log: pino({ level: process.env.LOG_LEVEL ?? 'warn' }) },
  })
  await handler.ready()
  const server = serverOf[framework](handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const end = async () => {
    await handler.close()
    server.closeAllConnections()
    server.close()
    return 0
  }
  t.teardown(end)
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, end, output: () => '', process: undefined as unknown as ChildProcess }
}
