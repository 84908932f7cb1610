import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { deliverWebhook } from '../../src/jobs/webhook-delivery.ts'
import { defineOperations } from '../../src/queue/define-operations.ts'
import { asRole, createDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'

t.test('the commands pause and resume operations, and cancel and retry jobs, as the functions in SQL do', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const database = openDatabase({ url: DATABASE_URL })
  t.teardown(() => database.close())
  await defineOperations(database, [deliverWebhook])
  const accepted = (...args: string[]) => run(args, { DATABASE_URL })
  const { rows } = await database.pool.query(`select accepted.enqueue('webhook.deliver') as id`)
  const id = rows[0].id as string

  t.match(await accepted('operations', 'pause', 'webhook.deliver', '--reason', 'a deploy'), {
    ...{ code: 0, out: /^Paused webhook\.deliver\. To resume it: accepted operations resume webhook\.deliver\n$/ },
  })
  const listed = await accepted('operations', 'list')
  t.match(listed.out, /^NAME +READY +DEFERRED +RUNNING +OLDEST +WORKERS +PAUSED +REASON\n/)
  t.match(listed.out, /\nwebhook\.deliver +1 +0 +0 +\d+s +0 +\d{4}-\S+Z +a deploy\n$/)
  t.match(JSON.parse((await accepted('operations', 'list', '--json')).out), [
    { operation: 'webhook.deliver', ready: 1, workers: 0, paused: true, paused_reason: 'a deploy' },
  ])
  t.match(await accepted('operations', 'resume', 'webhook.deliver'), { code: 0, out: 'Resumed webhook.deliver.\n' })
  t.match(await accepted('operations', 'pause', 'none'), {
    ...{ code: 1, err: "error: There is no operation 'none'. Operations: webhook.deliver\n" },
  })

  t.match(await accepted('jobs', 'cancel', id), { code: 0, out: `Canceled ${id}.\n` })
  const retry = JSON.parse((await accepted('jobs', 'retry', id, '--json')).out)
  t.match(retry, { retryOf: id })
  t.match(await accepted('jobs', 'retry', retry.id), { code: 1, err: /^error: Job \S+ is queued; only a failed/ })
  t.match(await accepted('jobs', 'cancel', 'x'), {
    code: 1,
    err: /^error: There is no job x, or its record is gone/,
  })
})

t.test('a role without the privilege learns which one it needs', async (t) => {
  const DATABASE_URL = asRole(await createDatabase(t), 'worker')
  t.match(await run(['operations', 'pause', 'webhook.deliver'], { DATABASE_URL }), {
    code: 1,
    err: /^error: Permission denied for function pause\. Grant accepted_operator to the role in DATABASE_URL, or/,
  })
})
