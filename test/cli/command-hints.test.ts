import t from 'tap'
import { withCommands } from '../../src/cli/command-hints.ts'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { todosConfig } from '../support/program.ts'

t.test('hints name commands instead of SQL', async (t) => {
  const { pool, options } = await openTestDatabase(t)
  const accepted = (...args: string[]) => run(args, { DATABASE_URL: options.url })
  await accepted('migrate', '--config', todosConfig)
  const id: string = (await pool.query(`select accepted.enqueue('webhook.deliver', principal => 'ann') as id`)).rows[0]
    .id
  t.match(await accepted('jobs', 'forget', 'ann'), {
    err: /^error: 1 job of 'ann' has not ended\. To cancel them: accepted jobs forget ann --cancel-pending\n$/,
  })
  await pool.query(
    `update accepted.job set status = 'failed', ended_at = now(), error = '{"code": "x", "message": "x"}' where id = $1`,
    [id],
  )
  t.match(await accepted('jobs', 'cancel', id), { err: new RegExp(`failed\\. .* again: accepted jobs retry ${id}\n$`) })
  t.match(await accepted('jobs', 'run', id), {
    err: /it has failed\. To see where a job is: accepted jobs show <id>\n$/,
  })
  const none = '01a227b8-50e9-7feb-98b2-36dc1c591b2e'
  t.match(await accepted('jobs', 'cancel', none), { err: /To find jobs: accepted jobs list\n$/ })
  t.match(await accepted('webhooks', 'test', none), { err: /All endpoints: accepted webhooks list\n$/ })
  const batch = (
    await pool.query(`select accepted.enqueue_batch('[{"operation": "todo.create", "payload": {}}]') as id`)
  ).rows[0].id
  await pool.query('select accepted.cancel($1)', [batch])
  await pool.query(
    `update accepted.job set status = 'failed', ended_at = now(), error = '{"code": "x", "message": "x"}' where id = $1 and ended_at is null`,
    [batch],
  )
  t.match(await accepted('jobs', 'retry', batch), {
    err: new RegExp(`accepted jobs list --parent ${batch} --status failed\n$`),
  })
})

t.test('a name that a shell would split stays SQL', async (t) => {
  t.equal(withCommands("To end it: select accepted.resume('a b')"), "To end it: select accepted.resume('a b')")
})
