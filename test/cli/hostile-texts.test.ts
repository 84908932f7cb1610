import t from 'tap'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { todosConfig } from '../support/program.ts'

// These would clear the screen, set the title, write to the clipboard, hide what follows, or begin a line of their own.
const hostile = 'text \u001b[2J\u001b]0;title\u0007\u001b]52;c;YQ==\u0007\u009b8m\u202e\r\n\u2028\b\u007fend'
// biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be printed
const controls = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/

const database = await openTestDatabase(t)
const DATABASE_URL = database.options.url
const query = async (text: string, ...values: unknown[]) => (await database.pool.query(text, values)).rows

t.test('texts of clients, handlers and colleagues do not control the terminal', async (t) => {
  // Defines the operations.
  await run(['migrate', '--config', todosConfig], { DATABASE_URL })
  const [{ id: failed }] = await query(`select accepted.enqueue('todo.create', '{}') as id`)
  await query(
    `update accepted.job set status = 'failed', ended_at = now(), started_at = now(), message = $2, principal = $2,
      error = jsonb_build_object('code', 'handler-error', 'message', $2::text)
    where id = $1`,
    ...[failed, hostile],
  )
  const [{ id: batch }] = await query(
    `select accepted.enqueue_batch('[{"operation": "todo.create", "payload": {}}]') as id`,
  )
  await query(
    `update accepted.job set status = 'failed', ended_at = now(), started_at = now(),
      error = jsonb_build_object('code', 'handler-error', 'message', $2::text) where id = $1 or parent = $1`,
    ...[batch, hostile],
  )
  await run(['keys', 'add', 'ops'], { DATABASE_URL })
  await query('update accepted.api_key set name = $1', hostile)
  await run(['webhooks', 'add', 'https://a.test/'], { DATABASE_URL })
  await query('update accepted.webhook_endpoint set disabled_at = now(), disabled_reason = $1', hostile)
  await query(`select accepted.pause('todo.create', $1)`, hostile)
  for (const [args, code] of [
    [['jobs', 'list'], 0],
    [['batches', 'show', batch], 0],
    [['batches', 'watch', batch], 1],
    [['keys', 'list'], 0],
    [['webhooks', 'list'], 0],
    [['operations', 'list'], 0],
    [['jobs', 'cancel', hostile], 1],
    [['batches', 'show', hostile], 1],
  ] as const) {
    const { out, err, ...result } = await run(args, { DATABASE_URL })
    const command = args.slice(0, 2).join(' ')
    t.equal(result.code, code, command)
    t.match(out + err, /text.*end/s, `${command} shows the text`)
    t.notMatch(out + err, controls, `${command} shows no control character`)
  }
})
