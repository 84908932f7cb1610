import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import { openJobs } from '../support/jobs.ts'
import { Word } from './support.ts'

const say = defineOperation({ name: 'word.say', input: Word })
const operations = { say }

t.test('a worker with a missing or surplus handler does not start', async (t) => {
  const jobs = await openJobs(t, [say])
  const missing = {} as Parameters<typeof defineHandlers<typeof operations>>[1]
  await t.rejects(jobs.work(defineHandlers(operations, missing)), new TypeError('No handler is defined for word.say'))
  const surplus = { 'word.say': { perform: async () => {} }, 'word.more': {} }
  await t.rejects(
    jobs.work(defineHandlers(operations, () => surplus)),
    new TypeError('No operation is defined for the handler of word.more'),
  )
})

t.test('an app cannot define a handler for an operation that has the name of the built-in operation', async (t) => {
  const mine = defineOperation({ name: 'webhook.deliver', input: Word })
  t.throws(() => defineHandlers({ mine }, { 'webhook.deliver': { settle: async () => {} } }), TypeError)
})
