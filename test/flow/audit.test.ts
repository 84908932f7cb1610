import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { hashSecret } from '../../src/jobs/api-key.ts'
import { redrive } from '../../src/jobs/redrive.ts'
import { privileges } from '../../src/migrate/privileges.ts'
import { serve } from '../support/api.ts'
import { run } from '../support/command.ts'

const note = defineOperation({
  ...{ name: 'note.create', input: Type.Unknown() },
  route: { method: 'POST', url: '/notes' },
})

const { url, database } = await serve(t, { operations: { note } })
const query = async (text: string, values?: unknown[]) => (await database.pool.query(text, values)).rows
const one = async (text: string, values?: unknown[]): Promise<string> =>
  (await query(`select ${text} as it`, values))[0]?.it

await query(
  `insert into accepted.api_key (id, name, principal, scopes, prefix, hash) values (accepted.uuid7(), 'phone', 'ann', '{admin}', 'secret', $1)`,
  [hashSecret('secret')],
)
const keyId = (await query('select id from accepted.api_key'))[0].id
await query(
  `insert into accepted.schedule (name, operation, expression, timezone) values ('daily', 'note.create', '@daily', 'UTC')`,
)

/** Creates what acts are done to. */
const make = {
  queued: () => one(`accepted.enqueue('note.create', principal => 'ann')`),
  async canceled(): Promise<string> {
    const id = await make.queued()
    await query('select accepted.cancel($1)', [id])
    return id
  },
  batch: () =>
    one(`accepted.enqueue_batch('[{"operation": "note.create"}, {"operation": "note.create"}]', principal => 'ann')`),
  operation: async () => 'note.create',
  schedule: async () => 'daily',
  person: () => one(`(select 'dan' from accepted.enqueue('note.create', principal => 'dan'))`),
  key: async (): Promise<string> => JSON.parse(await cli('keys', 'add', 'laptop', '--json')).id,
  async endpoint(): Promise<string> {
    const insert = `insert into accepted.webhook_endpoint (id, url, secrets) values (accepted.uuid7(), $1, '{whsec_x}') returning id`
    return (await query(insert, ['http://127.0.0.1:11998/']))[0].id
  },
  nothing: async () => '',
}

async function cli(...args: string[]): Promise<string> {
  const { code, out, err } = await run(args, { DATABASE_URL: database.options.url })
  if (code !== 0) throw new Error(err)
  return out
}

/** Runs a statement as a person who has the role `accepted_operator`. `$1` is the object of the act. */
const sqlAs = (statement: string) => async (object: string) => {
  const client = await database.pool.connect()
  try {
    await client.query('begin; set local role accepted_operator')
    await client.query(statement, statement.includes('$1') ? [object] : [])
    await client.query('commit')
  } finally {
    client.release()
  }
}

/** Sends a request with the key of ann. `:id` stands for the object of the act. */
const http = (method: string, path: string, body?: unknown) => async (object: string) => {
  const response = await fetch(url + path.replace(':id', object), {
    method,
    headers: { authorization: 'Bearer secret', ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
}

const command =
  (...args: string[]) =>
  async (object: string) =>
    void (await cli(...args.map((argument) => argument.replace(':id', object))))

interface Act {
  to: keyof typeof make
  act(object: string): Promise<void>
  /** The actions in the audit, in order. */
  records: string[]
  /** The object in the audit. Default: that of the act. */
  object?: RegExp | null
}

const inSql: Record<string, Act> = {
  cancel: { to: 'queued', act: sqlAs('select accepted.cancel($1)'), records: ['cancel'] },
  retry: { to: 'canceled', act: sqlAs('select accepted.retry($1)'), records: ['retry'] },
  redrive: { to: 'operation', act: sqlAs('select accepted.redrive($1)'), records: ['redrive'] },
  pause: { to: 'operation', act: sqlAs('select accepted.pause($1)'), records: ['pause'] },
  resume: { to: 'operation', act: sqlAs('select accepted.resume($1)'), records: ['resume'] },
  reschedule: { to: 'queued', act: sqlAs('select accepted.reschedule($1, now())'), records: ['reschedule'] },
  prioritize: { to: 'queued', act: sqlAs('select accepted.prioritize($1, 1)'), records: ['prioritize'] },
  // Its object is the job that changes the others.
  bulk: {
    ...{
      to: 'nothing',
      act: sqlAs(`select accepted.bulk('cancel', '{"operation": "none"}')`),
      records: ['bulk.cancel'],
    },
    object: /-/,
  },
  expire: { to: 'operation', act: sqlAs('select accepted.expire(now(), $1)'), records: ['expire'] },
  'expire, of all operations': {
    ...{ to: 'nothing', act: sqlAs('select accepted.expire(now())'), records: ['expire'], object: null },
  },
  forget: {
    ...{ to: 'person', act: sqlAs('select accepted.forget($1, true)'), records: ['cancel', 'forget'], object: /./ },
  },
  'cancel a batch, with its children': {
    ...{ to: 'batch', act: sqlAs('select accepted.cancel($1)'), records: ['cancel'] },
  },
  pause_schedule: {
    ...{ to: 'schedule', act: sqlAs(`select accepted.pause_schedule($1, 'why')`), records: ['schedule.paused'] },
  },
  'pause_schedule, for another reason': {
    ...{ to: 'schedule', act: sqlAs(`select accepted.pause_schedule($1, 'why now')`), records: ['schedule.paused'] },
  },
  resume_schedule: {
    ...{ to: 'schedule', act: sqlAs('select accepted.resume_schedule($1)'), records: ['schedule.resumed'] },
  },
  run_schedule: { to: 'schedule', act: sqlAs('select accepted.run_schedule($1)'), records: ['schedule.run'] },
  backfill_schedule: {
    ...{ to: 'schedule', act: sqlAs(`select accepted.backfill_schedule($1, now() - interval '1 day')`) },
    records: ['schedule.backfilled'],
  },
  'pause a schedule': {
    ...{ to: 'schedule', act: sqlAs('update accepted.schedule set paused = true where name = $1') },
    records: ['schedule.paused'],
  },
  'resume a schedule': {
    ...{ to: 'schedule', act: sqlAs('update accepted.schedule set paused = false where name = $1') },
    records: ['schedule.resumed'],
  },
  'run a schedule now': {
    ...{ to: 'schedule', act: sqlAs('update accepted.schedule set next_at = now() where name = $1') },
    records: ['schedule.rescheduled'],
  },
}

const onCommandLine: Record<string, Act> = {
  'jobs cancel': { to: 'queued', act: command('jobs', 'cancel', ':id'), records: ['cancel'] },
  'jobs retry': { to: 'canceled', act: command('jobs', 'retry', ':id'), records: ['retry'] },
  'operations pause': { to: 'operation', act: command('operations', 'pause', ':id'), records: ['pause'] },
  'operations resume': { to: 'operation', act: command('operations', 'resume', ':id'), records: ['resume'] },
  'keys add': { to: 'nothing', act: command('keys', 'add', 'tablet'), records: ['key.created'], object: /-/ },
  'keys revoke': { to: 'key', act: command('keys', 'revoke', ':id'), records: ['key.revoked'] },
  'keys rotate': {
    ...{ to: 'key', act: command('keys', 'rotate', ':id'), records: ['key.changed', 'key.created'] },
    object: /-/,
  },
  'webhooks add': {
    ...{ to: 'nothing', act: command('webhooks', 'add', 'http://127.0.0.1:11998/'), records: ['webhook.created'] },
    object: /-/,
  },
  'webhooks rotate': { to: 'endpoint', act: command('webhooks', 'rotate', ':id'), records: ['webhook.changed'] },
  'webhooks remove': { to: 'endpoint', act: command('webhooks', 'remove', ':id'), records: ['webhook.deleted'] },
}

/** By the operationId of the route. */
const overHttp: Record<string, Act> = {
  cancelJob: { to: 'queued', act: http('POST', '/jobs/:id/cancel'), records: ['cancel'] },
  'cancelJob of a batch': { to: 'batch', act: http('POST', '/jobs/:id/cancel'), records: ['cancel'] },
  deleteJob: { to: 'queued', act: http('DELETE', '/jobs/:id'), records: ['cancel'] },
  retryJob: { to: 'canceled', act: http('POST', '/jobs/:id/retry'), records: ['retry'] },
  createKey: { ...{ to: 'nothing', act: http('POST', '/keys', { name: 'x' }), records: ['key.created'] }, object: /-/ },
  rotateKey: {
    ...{ to: 'key', act: http('POST', '/keys/:id/rotate'), records: ['key.changed', 'key.created'] },
    object: /-/,
  },
  revokeKey: { to: 'key', act: http('DELETE', '/keys/:id'), records: ['key.revoked'] },
  createWebhook: {
    ...{ to: 'nothing', act: http('POST', '/webhooks', { url: 'http://127.0.0.1:11998/' }) },
    ...{ records: ['webhook.created'], object: /-/ },
  },
  rotateWebhookSecret: { to: 'endpoint', act: http('POST', '/webhooks/:id/rotate'), records: ['webhook.changed'] },
  removeWebhook: { to: 'endpoint', act: http('DELETE', '/webhooks/:id'), records: ['webhook.deleted'] },
}

const readSince = (id: string) =>
  query('select role, key_id, principal, action, object from accepted.audit where id > $1 order by id', [id])

for (const { how, acts, by } of [
  { how: 'in SQL', acts: inSql, by: { role: 'accepted_operator', key_id: null, principal: null } },
  {
    how: 'on the command line',
    acts: onCommandLine,
    by: { role: new URL(database.options.url).username, key_id: null, principal: null },
  },
  { how: 'over HTTP', acts: overHttp, by: { role: 'accepted_test_api', key_id: keyId, principal: 'ann' } },
]) {
  t.test(`what is done ${how} is in the audit once, with who did it and to what`, async (t) => {
    for (const [name, { to, act, records, object }] of Object.entries(acts)) {
      const given = await make[to]()
      const last = await one('(select coalesce(max(id), 0) from accepted.audit)')
      await act(given)
      const expected = records.map((action) => ({
        ...by,
        action,
        object: object === undefined ? given : (object ?? null),
      }))
      const rows = await readSince(last)
      t.match(rows, expected, name)
      t.equal(rows.length, records.length, `${name}: ${JSON.stringify(rows)}`)
    }
  })
}

t.test('the audit covers each function of operators and each route that changes something', async (t) => {
  const addsWork = ['enqueue', 'enqueue_batch', 'redrive_batch', 'deliver_webhook', 'bulk'].map(
    (name) => `accepted.${name}`,
  )
  const functions = privileges.operator.functions.filter((name) => !addsWork.includes(name))
  t.same(
    functions.filter((name) => !Object.hasOwn(inSql, name.replace('accepted.', ''))),
    [],
  )
  const { paths } = (await (
    await fetch(`${url}/openapi.json`, { headers: { authorization: 'Bearer secret' } })
  ).json()) as {
    paths: Record<string, Record<string, { operationId: string }>>
  }
  const changing = Object.values(paths).flatMap((methods) =>
    Object.entries(methods).flatMap(([method, { operationId }]) =>
      method === 'get' || method === 'head' ? [] : [operationId],
    ),
  )
  // These add jobs, whose records show them. A link only reads.
  const submitting = ['note.create', 'submitBatch', 'createJobLinks', 'testWebhook', 'resendWebhook']
  t.same(
    changing.filter((id) => !submitting.includes(id) && !Object.hasOwn(overHttp, id)),
    [],
  )
})

t.test('a redrive is in the audit, and so is each retry', async (t) => {
  const id = await make.canceled()
  await query('alter table accepted.job disable trigger user')
  await query(
    `update accepted.job set status = 'failed', error = '{"code": "x", "message": "x"}', payload = '{}' where id = $1`,
    [id],
  )
  await query('alter table accepted.job enable trigger user')
  await query(
    `insert into accepted.ended_job (ended_at, job_id, status) select ended_at, id, status from accepted.job where id = $1`,
    [id],
  )
  const last = await one('(select max(id) from accepted.audit)')
  // Like `accepted jobs redrive`.
  const redriveNext = (options: { after?: string; dryRun?: boolean }) =>
    database.kysely
      .transaction()
      .execute((trx) => redrive(trx as never, ['note.create'], { ...options, batchSize: 10, maxRedriven: 10 }))
  t.match(await redriveNext({ dryRun: true }), [{ id, outcome: 'redriven' }])
  t.match(await redriveNext({}), [{ id, outcome: 'redriven' }])
  await redriveNext({ after: id })
  t.match(await readSince(last), [
    { action: 'redrive', object: null },
    { action: 'retry', object: id },
  ])
  t.equal((await readSince(last)).length, 2, 'neither a dry run nor the next batch adds rows')
})
