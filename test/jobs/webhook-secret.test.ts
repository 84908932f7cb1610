import t from 'tap'
import { createEndpoint, findDeliveryTarget, rotateSecret } from '../../src/jobs/webhook-endpoint.ts'
import { fromStoredSecret, rekeySecrets, toStoredSecret } from '../../src/jobs/webhook-secret.ts'
import { newEncryptionKey, parseKeyRing } from '../../src/primitives/key-ring.ts'
import { openTestDatabase } from '../support/database.ts'
import { dump } from '../support/dump.ts'

const url = 'https://example.com/hook'
const [older, newer] = [newEncryptionKey('2026'), newEncryptionKey('2027')]
const keys = parseKeyRing(older)

async function setUp(t: Parameters<typeof openTestDatabase>[0]) {
  const { kysely, pool } = await openTestDatabase(t)
  const transact = <Result>(work: (trx: Parameters<typeof createEndpoint>[0]) => Promise<Result>) =>
    kysely.transaction().execute((trx) => work(trx as never))
  const secretsOf = async (id: string, ring = keys) =>
    (await findDeliveryTarget(kysely, id))?.secrets.map((secret) => fromStoredSecret(secret, id, ring))
  return { kysely, pool, transact, secretsOf }
}

t.test(
  'with keys, a dump of the database contains no secret in clear, neither a new one nor a previous one',
  async (t) => {
    const { transact, secretsOf, ...database } = await setUp(t)
    const { id, secret } = await transact((trx) => createEndpoint(trx, { url }, keys))
    const rotated = await transact((trx) => rotateSecret(trx, id, keys))
    t.same(await secretsOf(id), [rotated?.secret, secret], 'both can be read with the keys')
    const text = await dump(database)
    t.match(text, `sealed.${keys.encryptingId}.`)
    t.notMatch(text, 'whsec_')
    for (const one of [secret, rotated?.secret as string]) t.notMatch(text, one.slice('whsec_'.length))

    const clear = await transact((trx) => createEndpoint(trx, { url }))
    t.match(await dump(database), clear.secret, 'the search finds a secret in clear')
  },
)

t.test('an encrypted secret belongs to its endpoint and needs its key', async (t) => {
  const stored = toStoredSecret('whsec_x', 'one', keys)
  t.throws(() => fromStoredSecret(stored, 'another', keys), { name: 'DecryptionError' })
  t.throws(() => fromStoredSecret(stored, 'one', parseKeyRing(newer)), { message: 'ENCRYPTION_KEYS has no key 2026' })
  t.throws(() => fromStoredSecret(stored, 'one', undefined), { message: /not set, so the key 2026 is missing/ })
  t.equal(fromStoredSecret('whsec_x', 'one', keys), 'whsec_x', 'a secret in clear needs no key')
})

t.test(
  'rekey encrypts everything with the newest key, and goes on after an interruption and beside rotations',
  async (t) => {
    const { kysely, transact, secretsOf } = await setUp(t)
    const inClear = await transact((trx) => createEndpoint(trx, { url }))
    const encrypted = await transact((trx) => createEndpoint(trx, { url }, keys))
    const foreign = await transact((trx) => createEndpoint(trx, { url }, parseKeyRing(newEncryptionKey('lost'))))
    const both = parseKeyRing(`${newer},${older}`)
    const rotations = [1, 2, 3].map(() => transact((trx) => rotateSecret(trx, encrypted.id, both)))
    const [done] = await Promise.all([rekeySecrets(kysely, both), ...rotations])
    t.match(done, { failed: [{ id: foreign.id, reason: /no key lost/ }] })
    t.same(await secretsOf(inClear.id, parseKeyRing(newer)), [inClear.secret])
    t.equal((await secretsOf(encrypted.id, parseKeyRing(newer)))?.length, 2, 'the older key is no longer needed')
    t.match(await rekeySecrets(kysely, both), { rekeyed: 0, unchanged: 2, failed: [{ id: foreign.id }] })
  },
)
