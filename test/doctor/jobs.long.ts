import t from 'tap'
import { createDatabase, queryOnce } from '../support/database.ts'
import { type Condition, checkCondition, findingsAt } from './support.ts'

const define = `select accepted.define_operations('[{
  "name": "mail.send", "summary": "Send a mail", "retry_limit": 3, "retry_delay_seconds": 1, "retry_backoff": true,
  "retry_max_delay_seconds": 60, "timeout_seconds": 3600, "heartbeat_seconds": 3600, "priority": 0, "keep_seconds": 604800,
  "has_abandon": false, "is_fair": true
}]')`

const addWorker = `insert into accepted.worker (id, host, pid, version, operations)
  values ('01a1fd26-7f02-73f8-a267-364a5d7daab8', 'moon', 7, '0.0.0', '{mail.send}')`

/** A slow machine may need longer for some examinations than a live worker is silent. */
const sendHeartbeat = 'update accepted.worker set heartbeat_at = now() where heartbeat_at < now()'

/** An expression: a UUIDv7 of another time. */
const idAt = (time: string) =>
  `overlay(overlay(accepted.uuid_floor(${time})::text placing '7' from 15 for 1) placing '8' from 20 for 1)::uuid`

const addJob = (time: string, runAt = 'now()') =>
  `select accepted.insert_job(${idAt(time)}, 'mail.send', '{}', 'ann', run_at => ${runAt})`

const removeJobs = 'truncate accepted.job, accepted_queue.job_common'

t.test('conditions of jobs, operations and workers are found, and the way out works', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, define)
  t.same(await findingsAt({ url }), [], 'operations without jobs need no worker')
  await queryOnce(url, "select accepted.enqueue('mail.send')")
  await checkCondition(t, url, {
    make: 'select 1',
    ...{ code: 'no-worker', message: /No live worker takes mail\.send: 1 job is due/ },
    ...{ action: 'accepted worker --operations mail.send', end: addWorker },
  })
  const conditions: Condition[] = [
    {
      make: "select accepted.pause('mail.send', 'the mail server\nis down')",
      ...{ code: 'operation-paused', severity: 'warning', message: /\(the mail server\nis down\); 1 job is due/ },
      action: "When the reason is gone: select accepted.resume('mail.send')",
      end: "select accepted.resume('mail.send')",
    },
    {
      make: "update accepted.worker set heartbeat_at = now() + interval '1 hour'",
      ...{ code: 'heartbeat-in-future', severity: 'warning', message: /3,[56]\d\d s in the future/, action: /NTP/ },
      end: 'update accepted.worker set heartbeat_at = now()',
    },
    {
      make: `update accepted_queue.job_common set state = 'active', started_on = now() - interval '10 hours', heartbeat_on = now();
        update accepted.job set status = 'running', started_at = now(), attempt = 1,
          worker_id = '01a1fd26-7f02-73f8-a267-364a5d7daab8'`,
      ...{
        code: 'job-stuck',
        message: /longer than its timeout of 3600 s/,
        action: /accepted\.cancel\('[-0-9a-f]{36}'\)/,
      },
      end: 'update accepted_queue.job_common set started_on = now()',
    },
    {
      make: "update accepted_queue.job_common set state = 'cancelled', completed_on = now()",
      ...{ code: 'job-ended-in-queue', message: /pending, but cancelled in the queue/, action: /accepted\.retry\('/ },
      end: "update accepted_queue.job_common set state = 'active', completed_on = null",
    },
    {
      make: 'create table kept as table accepted_queue.job_common; truncate accepted_queue.job_common',
      ...{ code: 'job-without-queue-row', message: /has no row in accepted_queue\.job/, action: /accepted\.retry\('/ },
      end: 'insert into accepted_queue.job_common select * from kept',
    },
    {
      make: `insert into accepted_queue.job (id, name, data) values
        ('01a1fd26-7f02-73f8-a267-000000000000', 'mail.send', '{"job": "01a1fd26-7f02-73f8-a267-000000000000"}')`,
      ...{ code: 'queue-row-without-job', message: /accepted\.job has no such job/ },
      action:
        /delete from accepted_queue\.job where name = 'mail\.send' and id = '01a1fd26-7f02-73f8-a267-000000000000'$/,
      end: "delete from accepted_queue.job where name = 'mail.send' and id = '01a1fd26-7f02-73f8-a267-000000000000'",
    },
    {
      make: addJob("now() + interval '1 hour'"),
      ...{ code: 'job-in-future', severity: 'warning', message: /3,[56]\d\d s in the future/, action: /NTP/ },
      end: removeJobs,
    },
    {
      make: `insert into accepted.webhook_endpoint (id, url, secrets, disabled_at, disabled_reason) values
        ('01a1fd26-7f02-73f8-a267-364a5d7daab8', 'https://example.com/secret', '{sealed.k1.eA}', now(), 'it answered 410')`,
      ...{ code: 'webhook-disabled', severity: 'warning', message: /at example\.com has .* \(it answered 410\)/ },
      action: /^When it answers again: update accepted\.webhook_endpoint set disabled_at = null/,
      end: 'update accepted.webhook_endpoint set disabled_at = null, disabled_reason = null',
      options: { keyIds: ['k1'] },
    },
    {
      make: 'update accepted.webhook_endpoint set consecutive_failures = 6, opened_at = now(), probe_at = now()',
      ...{
        code: 'webhook-failing',
        severity: 'warning',
        message: / at example\.com fail \(6 in a row\)\. /,
      },
      action: /accepted webhooks log/,
      end: 'update accepted.webhook_endpoint set opened_at = null, probe_at = null',
      options: { keyIds: ['k1'] },
    },
    {
      make: 'select 1',
      ...{
        code: 'webhook-key-missing',
        severity: 'error',
        message: /the key k1, which ENCRYPTION_KEYS does not contain/,
      },
      ...{
        action: /^Add the key k1 to ENCRYPTION_KEYS/,
        end: "update accepted.webhook_endpoint set secrets = '{sealed.k2.eA}'",
      },
      options: { keyIds: ['k2'] },
    },
    {
      make: "update accepted.webhook_endpoint set secrets = '{whsec_eA==,sealed.k2.eA}'",
      ...{
        code: 'webhook-secret-in-clear',
        severity: 'warning',
        message: /^The signing secrets of 1 webhook endpoint are/,
      },
      ...{ action: /accepted webhooks rekey$/, end: 'delete from accepted.webhook_endpoint' },
      options: { keyIds: ['k2'] },
    },
  ]
  for (const condition of conditions) await checkCondition(t, url, condition, sendHeartbeat)

  await queryOnce(url, "update accepted.worker set heartbeat_at = now() - interval '1 minute'")
  const silent = await findingsAt({ url })
  t.match(silent, [{ code: 'worker-silent', severity: 'warning', message: /moon:7 .* for \d min/, action: /log/ }])
})

t.test('conditions of partitions are found, and the way out works', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, `${define}; ${addWorker}`)
  const [{ tomorrow }] = await queryOnce(
    url,
    "select to_char(now() at time zone 'UTC' + interval '1 day', 'YYYYMMDD') as tomorrow",
  )
  await checkCondition(
    t,
    url,
    {
      make: `drop table accepted.job_${tomorrow}`,
      ...{ code: 'partition-missing', severity: 'warning', action: /select accepted\.create_job_partitions\(\)$/ },
      end: 'select accepted.create_job_partitions()',
    },
    sendHeartbeat,
  )
  const old = "(now() at time zone 'UTC')::date::timestamp at time zone 'UTC' - interval '40 days'"
  await checkCondition(
    t,
    url,
    {
      make: addJob(old),
      ...{ code: 'default-partition-used', severity: 'warning', action: /Start a worker/, end: removeJobs },
    },
    sendHeartbeat,
  )

  const [bounds] = await queryOnce(
    url,
    `
    select to_char(day, 'YYYYMMDD') as day, accepted.uuid_floor(day) as first, accepted.uuid_floor(day + interval '1 day') as end
    from (select ${old} as day) d`,
  )
  const partition = `accepted.job_${bounds.day}`
  await queryOnce(
    url,
    `create table ${partition} partition of accepted.job for values from ('${bounds.first}') to ('${bounds.end}')`,
  )
  await queryOnce(url, sendHeartbeat)
  t.match(await findingsAt({ url }), [
    {
      code: 'partition-kept',
      severity: 'warning',
      message: /could have been dropped \d\d d ago\. No/,
      action: /Start a worker/,
    },
  ])
  await queryOnce(url, addJob(old, "now() + interval '1 year'"))
  await checkCondition(
    t,
    url,
    {
      make: 'select 1',
      ...{
        code: 'partition-kept',
        severity: 'warning',
        message: /the pending job [-0-9a-f]{36} of mail\.send, due at /,
      },
      action: /select accepted\.cancel\('[-0-9a-f]{36}'\)$/,
      end: `drop table ${partition}; truncate accepted_queue.job_common`,
    },
    sendHeartbeat,
  )
})

t.test('a batch, and a job whose end is decided, need no row in the queue', async (t) => {
  const url = await createDatabase(t)
  for (const statement of [
    define.replaceAll('mail.send', 'batch'),
    define.replace('"has_abandon": false', '"has_abandon": true'),
    addWorker,
    `select accepted.enqueue_batch('[{"operation": "mail.send"}]')`,
    "select accepted.cancel(accepted.enqueue('mail.send'))",
  ]) {
    await queryOnce(url, statement)
  }
  const pending = await queryOnce(url, 'select operation from accepted.job where ended_at is null order by operation')
  t.same(pending, [{ operation: 'batch' }, { operation: 'mail.send' }, { operation: 'mail.send' }])
  await queryOnce(url, sendHeartbeat)
  t.same(await findingsAt({ url }), [])
})
