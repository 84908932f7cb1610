import { defineOperation } from 'accepted'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { type Database, openDatabase } from '../../../src/db/database.ts'
import { accepted } from '../../../src/http/accepted.ts'
import { maxRegistrationMs } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'
import { asRole, createDatabase } from '../../support/database.ts'
// Loaded before it registers, because Fastify limits the time in which a plugin registers.
import '../../../src/http/plugin.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

/** Whether the hooks and serializers of the app throw. They are healthy while a test prepares its jobs. */
interface Faults {
  areActive: boolean
}

const bug = () => new Error('A bug of the app')

/** Mistakes in an app that make every answer of a plugin route fail after the commit. */
const mistakes: Readonly<Record<string, (app: FastifyInstance, faults: Faults) => void>> = {
  'a hook preSerialization that throws': (app, faults) => {
    app.addHook('preSerialization', async (_request, _reply, payload) => {
      if (faults.areActive) throw bug()
      return payload
    })
  },
  'a hook onSend that throws': (app, faults) => {
    app.addHook('onSend', async (_request, _reply, payload) => {
      if (faults.areActive) throw bug()
      return payload
    })
  },
  'a serializer that throws': (app, faults) => {
    app.setReplySerializer((payload) => {
      if (faults.areActive) throw bug()
      return JSON.stringify(payload)
    })
  },
  'reply.send that throws': (app, faults) => {
    app.addHook('preHandler', async (_request, reply) => {
      const send = reply.send.bind(reply)
      reply.send = (payload?: unknown) => {
        if (faults.areActive && !(payload instanceof Error)) throw bug()
        return send(payload)
      }
    })
  },
}

async function serve(t: Test, makeMistake: (app: FastifyInstance, faults: Faults) => void) {
  const faults = { areActive: false }
  const databaseUrl = await createDatabase(t)
  const app = Fastify({ pluginTimeout: maxRegistrationMs })
  t.teardown(() => app.close())
  makeMistake(app, faults)
  // An app without our conventions: its own error handler answers 500.
  app.setErrorHandler((_error, _request, reply) => reply.code(500).send({ own: 'handler' }))
  await app.register(accepted, { operations: { note }, database: asRole(databaseUrl, 'api') })
  app.post('/own', async (_request: FastifyRequest, reply: FastifyReply) => {
    const job = await app.accepted.db.transaction().execute((trx) => app.accepted.enqueue(trx, note, { text: 'own' }))
    return reply.accepted(job)
  })
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  return { url: await app.listen({ host: '127.0.0.1', port: 0 }), database, faults }
}

const idsOf = async ({ pool }: Database): Promise<string[]> =>
  (await pool.query('select id from accepted.job order by id desc')).rows.map(({ id }) => id)

for (const [mistake, makeMistake] of Object.entries(mistakes)) {
  t.test(`with ${mistake}, a committed job is still answered with its id and its URLs`, async (t) => {
    const { url, database, faults } = await serve(t, makeMistake)
    const { body: toCancel } = await post(`${url}/notes`, { text: 'x' })
    const { body: toRetry } = await post(`${url}/notes`, { text: 'x' })
    await post(toRetry.links.cancel, {})
    faults.areActive = true
    for (const [path, body] of [
      ['/notes', { text: 'x' }],
      ['/own', {}],
      [`/jobs/${toRetry.id}/retry`, {}],
    ] as const) {
      const answer = await post(url + path, body)
      const [id] = await idsOf(database)
      t.equal(answer.status, 202, `${path}: ${JSON.stringify(answer.body)}`)
      t.match(answer.body, { id, status: 'queued', links: { self: `${url}/jobs/${id}` } })
      t.equal(answer.headers.get('operation-location'), `${url}/jobs/${id}`)
      t.equal(answer.headers.get('location'), `${url}/jobs/${id}/result`)
    }
    const canceled = await post(`${url}/jobs/${toCancel.id}/cancel`, {})
    t.match(canceled, { status: 200, body: { id: toCancel.id, status: 'canceled' } })
    faults.areActive = false
    t.match(await get(`${url}/jobs/${toCancel.id}`), { status: 200, body: { status: 'canceled' } })
  })
}

t.test('a request that commits nothing still gets the 500 of the failing hook', async (t) => {
  const { url, faults } = await serve(t, mistakes['a hook preSerialization that throws'] as never)
  const { body } = await post(`${url}/notes`, { text: 'x' })
  faults.areActive = true
  t.equal((await get(body.links.self)).status, 500)
})
