import { accepted } from 'accepted'
import { createWorker, defineHandlers, type PerformingJob } from 'accepted/worker'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import { maxRegistrationMs, serve, type TestApi } from '../support/api.ts'
import { asRole } from '../support/database.ts'
import { until } from '../support/until.ts'
import * as operations from './operations.ts'

type Perform = (job: PerformingJob<typeof operations.steered>) => Promise<{ name: string }>

/** An API and a worker in this process. */
export interface App extends TestApi {
  /** Sets what the handler of the job `steered` with this name does. Without it, the job waits until the test ends. */
  perform(name: string, perform: Perform): void
  /** Starts another API with the same database. Returns its URL. */
  startAnother(): Promise<string>
  /** Counts the jobs of an operation. */
  count(operation: string): Promise<number>
}

export interface AppOptions {
  corsOrigins?: readonly string[]
  /** Adds routes of the host app. */
  prepare?: (app: FastifyInstance) => void
}

/** Requests with another value than this of the header `x-api-key` get 401. */
export const apiKey = 'secret'

/** Starts an API and a worker with a new database. */
export async function startApp(t: Test, { corsOrigins, prepare = () => {} }: AppOptions = {}): Promise<App> {
  const performs = new Map<string, Perform>()
  const options = {
    operations,
    authenticate: ({ headers }: FastifyRequest) => (headers['x-api-key'] === apiKey ? 'ann' : null),
    ...(corsOrigins && { corsOrigins }),
  }
  const api = await serve(t, options, prepare)
  const handlers = defineHandlers(operations, {
    'note.create': { settle: async () => {} },
    'words.count': {
      settle: async (_trx, jobs) =>
        jobs.map(({ payload: { text, language } }) => ({ words: text.split(' ').length, language })),
    },
    steered: {
      concurrency: 100,
      perform: async (job) => (await until(() => performs.get(job.payload.name)))(job),
    },
    idle: { settle: async () => {} },
  })
  const worker = await createWorker({
    ...{ handlers, log: pino({ level: 'silent' }), graceSeconds: 1 },
    operations: ['note.create', 'words.count', 'steered'],
    database: asRole(api.database.options.url, 'worker'),
  })
  t.teardown(() => worker.stop())
  return {
    ...api,
    async startAnother() {
      const other = Fastify({ pluginTimeout: maxRegistrationMs })
      t.teardown(() => other.close())
      await other.register(accepted, { ...options, database: asRole(api.database.options.url, 'api') })
      return other.listen({ host: '127.0.0.1', port: 0 })
    },
    perform: (name, perform) => void performs.set(name, perform),
    async count(operation) {
      const text = 'select count(*)::integer as count from accepted.job where operation = $1'
      return (await api.database.pool.query(text, [operation])).rows[0].count
    },
  }
}
