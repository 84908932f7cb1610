import { accepted, defineOperation } from 'accepted'
import Fastify from 'fastify'
import t from 'tap'
import Type from 'typebox'
import { maxRegistrationMs } from '../support/api.ts'
import { get } from '../support/client.ts'
import { asRole, createDatabase } from '../support/database.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

t.test('a principal that cannot be used gets 401, and the log says what is wrong with it', async (t) => {
  const log: { level: number; msg: string }[] = []
  const app = Fastify({
    pluginTimeout: maxRegistrationMs,
    logger: { level: 'warn', stream: { write: (line: string) => log.push(JSON.parse(line)) } },
  })
  t.teardown(() => app.close())
  await app.register(accepted, {
    database: asRole(await createDatabase(t), 'api'),
    operations: { note },
    authenticate: ({ headers }) => `${headers['x-user'] ?? ''}`,
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const as = (user: string) => get(`${url}/jobs`, { 'x-user': user })
  t.match(await as('ann'), { status: 200 })
  const refused: [user: string, reason: RegExp][] = [
    ['', /must not be empty/],
    ['a\u0080b', /must not contain control characters/],
    ['x'.repeat(256), /must have at most 255 characters/],
    ['webhook:1', /must not be 'webhook:1'/],
  ]
  for (const [user, reason] of refused) {
    log.length = 0
    const answer = await as(user)
    t.match(answer, { status: 401, body: { error: { code: 'unauthenticated' }, detail: reason } }, JSON.stringify(user))
    t.match(log, [{ level: 40, msg: reason }])
  }
})
