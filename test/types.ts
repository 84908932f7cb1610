// This file is compiled, but never run. `npm run check:types` fails if an expected error does not occur.
import {
  type Accepted,
  accepted,
  connect,
  defineConfig,
  defineOperation,
  defineSchedule,
  type Job,
  refuse,
} from 'accepted'
import type { Perform } from 'accepted/perform'
import { defineHandlers } from 'accepted/worker'
import Fastify from 'fastify'
import type { Transaction } from 'kysely'
import pg from 'pg'
import Type from 'typebox'

interface Tables {
  todo: { id: string; title: string }
}

const Input = Type.Object({ title: Type.String() })
const Payload = Type.Object({ todoId: Type.String() })
const Result = Type.Object({ messageId: Type.String() })

const createTodo = defineOperation({
  name: 'todo.create',
  route: { method: 'POST', url: '/todos' },
  input: Input,
  payload: Payload,
  accept: async (trx: Transaction<Tables>, entries) => {
    await trx
      .insertInto('todo')
      .values(entries.map(({ id, input }) => ({ id, title: input.title })))
      .execute()
    return entries.map(({ id }) => ({ payload: { todoId: id }, resource: `/todos/${id}` }))
  },
})
const sendReminder = defineOperation({ name: 'reminder.send', input: Input, result: Result })
export const saveTodo = defineOperation({
  name: 'todo.save',
  route: { method: 'PUT', url: '/todos/:id' },
  params: Type.Object({ id: Type.String() }),
  input: Input,
  payload: Payload,
  coalesce: { key: ({ title }, { id }) => `${id} ${title.length}`, forSeconds: 60, mode: 'last' },
  accept: async (_trx, entries) =>
    entries.map(({ params, replaces }) => {
      replaces?.todoId satisfies string | undefined
      // @ts-expect-error the payload that is replaced has no title
      replaces?.title
      return { payload: { todoId: params.id } }
    }),
})
// @ts-expect-error an unknown mode
defineOperation({ name: 'x', input: Input, coalesce: { key: () => 'k', forSeconds: 60, mode: 'all' } })
const operations = { createTodo, sendReminder, version: 1 }

const settleTodo = { settle: async () => {} }
const performReminder = { perform: async () => ({ messageId: 'm' }) }

export const complete = [
  defineHandlers(operations, { 'todo.create': settleTodo, 'reminder.send': performReminder }),
  defineHandlers(operations, ({ log }) => ({
    'todo.create': {
      settle: async (trx: Transaction<Tables>, jobs) => {
        for (const job of jobs) {
          const id: string = job.payload.todoId
          log.info({ id, attempt: job.attempt satisfies number })
          await trx.deleteFrom('todo').where('id', '=', id).execute()
          await job.enqueue(trx, sendReminder, { title: 'x' }, { key: 'k' })
          // @ts-expect-error a payload of another operation
          await job.enqueue(trx, sendReminder, { todoId: 'x' })
          const batch: string = await job.enqueueBatch(trx, {
            items: [
              { operation: sendReminder, payload: { title: 'x' }, key: 'k' },
              // @ts-expect-error a payload of another operation
              { operation: sendReminder, payload: { todoId: 'x' } },
            ],
            onEnd: { operation: createTodo, payload: { todoId: 'x' } },
            ...{ child: true, allowFailures: true, principal: 'ann' },
          })
          await job.enqueue(trx, sendReminder, { title: 'x' }, { after: [batch] })
        }
      },
    },
    'reminder.send': {
      perform: async (job) => {
        for (const dependency of await job.dependencies(sendReminder)) {
          if (dependency.status === 'succeeded') dependency.result.messageId satisfies string
          else if (dependency.status === 'failed') dependency.error.code satisfies string
          // @ts-expect-error a canceled job has no result
          else dependency.result
        }
        for (const dependency of await job.dependencies()) {
          // @ts-expect-error the operation is not known, so the result has no type
          if (dependency.status === 'succeeded') dependency.result.messageId
        }
        // @ts-expect-error the payload is the input, and the input has no todoId
        job.payload.todoId
        return { messageId: job.payload.title }
      },
      settle: async (_trx, [job]) => {
        job?.result.messageId satisfies string | undefined
      },
    },
  })),

  defineHandlers(operations, {
    'todo.create': { perform: new URL('file:///perform.js'), isolate: 'thread', memoryLimit: 64, concurrency: 1 },
    'reminder.send': {
      perform: new URL('file:///perform.js'),
      settle: async (_trx, [job]) => {
        job?.result.messageId satisfies string | undefined
      },
    },
  }),
  (async ({ payload }) => ({ messageId: payload.title })) satisfies Perform<typeof sendReminder>,

  // @ts-expect-error isolate requires a module
  defineHandlers(operations, {
    'todo.create': settleTodo,
    'reminder.send': { ...performReminder, isolate: 'process' },
  }),
  // @ts-expect-error the result lacks messageId
  (async () => ({ id: 'm' })) satisfies Perform<typeof sendReminder>,
  // @ts-expect-error a handler is missing
  defineHandlers(operations, { 'todo.create': settleTodo }),
  // @ts-expect-error the function returns no handler for one operation
  defineHandlers(operations, () => ({ 'todo.create': settleTodo })),
  defineHandlers(operations, {
    'todo.create': settleTodo,
    'reminder.send': performReminder,
    // @ts-expect-error no operation has this name
    'todo.delete': settleTodo,
  }),
  // @ts-expect-error the result lacks messageId
  defineHandlers(operations, {
    'todo.create': settleTodo,
    'reminder.send': { perform: async () => ({ id: 'm' }) },
  }),
  // @ts-expect-error the operation has a result, so settle must return it
  defineHandlers(operations, {
    'todo.create': settleTodo,
    'reminder.send': { settle: async () => {} },
  }),
]

export const refused = [
  defineOperation({
    name: 'x',
    input: Input,
    payload: Payload,
    // @ts-expect-error the payload lacks todoId
    accept: async (_trx, entries) => entries.map(() => ({ payload: { id: 'x' } })),
  }),
  // @ts-expect-error a payload schema requires accept
  defineOperation({ name: 'x', input: Input, payload: Payload }),
  // @ts-expect-error params require accept
  defineOperation({ name: 'x', input: Input, params: Type.Object({ id: Type.String() }) }),
  defineOperation({
    name: 'x',
    input: Input,
    params: Type.Object({ id: Type.String() }),
    accept: async (_trx, entries) =>
      entries.map(({ input, params }) =>
        params.id === '' ? refuse(404, 'not-found', 'There is none') : { payload: { title: input.title } },
      ),
  }),
]

export const authenticated = [
  defineConfig({ operations, handlers: './handlers.ts', authenticate: async () => 'ann' }),
  defineConfig({
    operations,
    handlers: './handlers.ts',
    authenticate: () => ({ principal: 'ops', scopes: ['admin'] }),
  }),
  // @ts-expect-error the principal is missing
  defineConfig({ operations, handlers: './handlers.ts', authenticate: () => ({ scopes: ['admin'] }) }),
]

export async function app(): Promise<void> {
  const app = Fastify()
  await app.register(accepted, { ...defineConfig({ operations, handlers: './handlers.ts' }), database: 'postgres://' })
  app.post('/', async (_request, reply) => {
    const job = await app.accepted.db.transaction().execute(async (trx) => {
      // @ts-expect-error a wrong payload
      await app.accepted.enqueue(trx, createTodo, { title: 'x' })
      return app.accepted.enqueue(trx, createTodo, { todoId: 'x' }, { principal: 'ann', runAt: new Date() })
    })
    await app.accepted.db.transaction().execute(async (trx) => {
      const reminders = ['x', 'y'].map((title) => ({ operation: sendReminder, payload: { title } }))
      await app.accepted.enqueueBatch(trx, { items: reminders })
      return app.accepted.enqueueBatch(trx, {
        items: [
          { operation: createTodo, payload: { todoId: 'x' }, key: 'k' },
          { operation: sendReminder, payload: { title: 'x' } },
          // @ts-expect-error a payload of another operation
          { operation: sendReminder, payload: { todoId: 'x' } },
        ],
        // @ts-expect-error a payload of another operation
        onEnd: { operation: createTodo, payload: { title: 'x' } },
        ...{ allowFailures: true, principal: 'ann' },
      })
    })
    await app.accepted.cancel(job.id, { principal: 'ann' })
    return reply.accepted(job)
  })
}

export async function script(client: pg.PoolClient): Promise<Job | undefined> {
  const accepted: Accepted = await connect({ operations, database: new pg.Pool() })
  const [first] = await accepted.enqueueAll(client, [
    { operation: createTodo, payload: { todoId: 'x' }, priority: 1 },
    { operation: sendReminder, payload: { title: 'x' }, key: 'k' },
    // @ts-expect-error a payload of another operation
    { operation: sendReminder, payload: { todoId: 'x' } },
  ])
  return first && accepted.get((await accepted.retry(first.id, { key: 'k' })).id)
}

export const schedules = [
  defineSchedule({ name: 'x', cron: '0 3 * * *', operation: createTodo, payload: { todoId: 'x' } }),
  defineSchedule({
    name: 'x',
    rrule: 'FREQ=DAILY',
    timezone: 'Europe/Berlin',
    operation: sendReminder,
    payload: (at) => ({ title: at.toISOString() }),
    missed: 'once',
  }),
  // @ts-expect-error a payload of another operation
  defineSchedule({ name: 'x', cron: '0 3 * * *', operation: createTodo, payload: { title: 'x' } }),
  // @ts-expect-error the function returns a payload of another operation
  defineSchedule({ name: 'x', cron: '0 3 * * *', operation: createTodo, payload: () => ({ title: 'x' }) }),
  // @ts-expect-error cron and rrule exclude each other
  defineSchedule({
    name: 'x',
    cron: '0 3 * * *',
    rrule: 'FREQ=DAILY',
    operation: sendReminder,
    payload: { title: 'x' },
  }),
]

export const besideSchedules = defineHandlers(
  { ...operations, nightly: schedules[0] },
  { 'todo.create': settleTodo, 'reminder.send': performReminder },
)
