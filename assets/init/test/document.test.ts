import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestKit } from 'accepted/testing'
import handlers from '../handlers.ts'
import * as operations from '../operations.ts'

const migrations = new URL('../migrations/', import.meta.url)

test('a worker counts the words of a document', async () => {
  await using kit = await createTestKit({ operations, handlers, migrations })
  const { id } = await kit.submit(operations.countWords, { text: 'to be or not to be' })
  await kit.runUntilIdle()
  const job = await kit.expectJob(id, { status: 'succeeded' })
  assert.deepEqual(job.result, { words: 6 })
  assert.deepEqual(await kit.db.selectFrom('document').select('words').execute(), [{ words: 6 }])
})

test('an empty document is refused', async () => {
  await using kit = await createTestKit({ operations, handlers, migrations })
  await assert.rejects(kit.submit(operations.countWords, { text: '' }), { status: 400, code: 'invalid-body' })
})
