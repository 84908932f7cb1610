import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createWorker } from 'accepted/worker'
import pg from 'pg'
import handlers from '../handlers.ts'

const database = process.env.DATABASE_URL ?? ''
const skip = database === '' && 'set DATABASE_URL to a database that `npm run migrate` has migrated'

test('a worker counts the words of a document', { skip, timeout: 30_000 }, async (t) => {
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  t.after(() => client.end())
  const worker = await createWorker({ handlers, database })
  t.after(() => worker.stop())

  const id = crypto.randomUUID()
  await client.query('begin')
  await client.query('insert into document (id, body) values ($1, $2)', [id, 'to be or not to be'])
  const payload = { documentId: id, text: 'to be or not to be' }
  const { rows } = await client.query(`select accepted.enqueue('document.count', $1) as job`, [payload])
  await client.query('commit')

  const readJob = async () =>
    (await client.query('select status, result from accepted.job where id = $1', [rows[0].job])).rows[0]
  let job = await readJob()
  while (['queued', 'running'].includes(job.status)) {
    await delay(50)
    job = await readJob()
  }
  assert.deepEqual(job, { status: 'succeeded', result: { words: 6 } })
  const counted = await client.query('select words from document where id = $1', [id])
  assert.deepEqual(counted.rows, [{ words: 6 }])
})
