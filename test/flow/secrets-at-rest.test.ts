import { join } from 'node:path'
import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { newEncryptionKey } from '../../src/primitives/key-ring.ts'
import { post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { createDatabase } from '../support/database.ts'
import { dump } from '../support/dump.ts'
import { start } from '../support/program.ts'
import { startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'

const config = join(import.meta.dirname, 'fixtures/sealed.config.ts')

/** A secret in the forms in which a table or a log may contain it. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret)
  const decoded = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  return [secret, bytes.toString('hex'), bytes.toString('base64').replace(/.=*$/, ''), decoded.toString('hex')]
}

t.test(
  'neither the database nor the log of Postgres nor ours contains a secret, a key or a sealed member',
  async (t) => {
    const databaseUrl = await createDatabase(t)
    const database = openDatabase({ url: databaseUrl })
    t.teardown(() => database.close())
    const { rows } = await database.pool.query('select current_database() as name')
    await database.pool.query(`alter database ${rows[0].name} set log_statement = 'all'`)
    const encryptionKey = newEncryptionKey('2027')
    const env = { ENCRYPTION_KEYS: encryptionKey, LOG_LEVEL: 'trace', WEBHOOK_ALLOW: '127.0.0.0/8' }
    const command = async (...args: string[]) => {
      const { code, out, err } = await run([...args, '--json'], { ...env, DATABASE_URL: databaseUrl })
      t.equal(code, 0, err)
      return JSON.parse(out)
    }
    const receiver = await startReceiver(t, { answers: ['echo'] })
    const { id: endpoint, secret } = await command('webhooks', 'add', receiver.url)
    const { secret: rotated } = await command('webhooks', 'rotate', endpoint)
    const { key, id: keyId } = await command('keys', 'add', 'ann')
    const api = await start(t, 'api', { config, databaseUrl, env })

    const card = '4111-1111-1111-1111'
    const authorization = { authorization: `Bearer ${key}` }
    const submit = async (path: string, more = {}) => {
      const headers = { ...authorization, 'idempotency-key': `${path} ${JSON.stringify(more)}` }
      const { status, body } = await post(`${api.url}/${path}`, { card, amount: 1, ...more }, headers)
      t.equal(status, 202, path)
      return body.id as string
    }
    for (const path of ['payments', 'settled-payments', 'abandoned-payments', 'isolated-payments', 'split-payments']) {
      await submit(path)
    }
    for (const path of ['payments', 'settled-payments', 'abandoned-payments']) await submit(path, { order: 'declined' })
    await submit('coalesced-payments', { order: 'a' })
    await submit('coalesced-payments', { order: 'a', amount: 2 })
    const items = [{ operation: 'payment.perform', input: { card, amount: 1 }, key: 'an item' }]
    t.equal(
      (
        await post(
          `${api.url}/batches`,
          { items, onEnd: { operation: 'payment.settle', input: items[0]?.input } },
          authorization,
        )
      ).status,
      202,
    )
    t.equal((await post(`${api.url}/payments`, { card: { [card]: 1 }, amount: 'x' }, authorization)).status, 400)

    const secrets = { card, secret, rotated, key, encryptionKey: encryptionKey.split(':')[1] as string }
    const check = async (when: string) => {
      const { rows: logs } = await database.pool.query("select pg_read_file('server.log', true) as text")
      const ofDatabase = await dump(database)
      t.match(ofDatabase, /sealed\.2027\./)
      for (const [place, text] of Object.entries({
        database: ofDatabase,
        serverLog: logs[0].text,
        log: api.output(),
      })) {
        for (const [name, value] of Object.entries(secrets)) {
          // No t.notMatch, which would print the whole text.
          for (const form of formsOf(value)) t.notOk(text.includes(form), `${place}, ${when}: ${name}`)
        }
      }
      return logs[0].text as string
    }
    t.match(await check('while jobs wait'), /payment\.perform/, 'the server logs statements')

    const worker = await start(t, 'worker', { config, databaseUrl, env })
    await until(async () => {
      const { rows: pending } = await database.pool.query(
        "select from accepted.job where ended_at is null and operation <> 'payment.coalesce' limit 1",
      )
      return pending.length === 0 && receiver.received.length > 0
    })
    await database.pool.query('select accepted.redrive()')
    await command('keys', 'revoke', keyId)
    await worker.end()
    for (const form of formsOf(card)) t.notOk(worker.output().includes(form))
    await check('after jobs have ended')

    // SQL cannot seal. This also shows that a secret would have been found.
    await database.pool.query("select accepted.enqueue('payment.coalesce', $1)", [{ card, amount: 1 }])
    t.ok((await dump(database)).includes(card))
  },
)
