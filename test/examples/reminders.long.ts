import t from 'tap'
import { ended, post } from '../support/client.ts'
import { openTestDatabase } from '../support/database.ts'
import { startFaultySmtp } from '../support/faulty-smtp.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

const reminderCount = 2_000
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

t.test(`${reminderCount} reminders arrive, although the mail server fails 20 % of the time`, async (t) => {
  t.comment(`SEED=${seed}`)
  const smtp = await startFaultySmtp(t, { share: 0.2, seed })
  const database = await openTestDatabase(t)
  const databaseUrl = database.options.url
  const env = { SMTP_URL: smtp.url, SMTP_RETRY_SECONDS: '1' }
  const [api] = await Promise.all([
    start(t, 'api', { databaseUrl }),
    start(t, 'worker', { databaseUrl, env }),
    start(t, 'worker', { databaseUrl, env }),
  ])
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  const query = async (text: string): Promise<any[]> => (await database.pool.query(text)).rows

  const { body } = await post(`${api.url}/todos`, { title: 'Water the flowers' })
  const { id } = await ended(body.links.self)
  let next = 0
  const submit = async () => {
    while (next < reminderCount) {
      const { status } = await post(`${api.url}/todos/${id}/reminders`, { email: `reader-${next++}@example.com` })
      if (status !== 202) t.fail(`the API answered ${status}`)
    }
  }
  await Promise.all(Array.from({ length: 20 }, submit))

  const countOpen = async (): Promise<number> => {
    const [{ open }] = await query(`select count(*)::integer as open from accepted.job
      where operation = 'reminder.send' and ended_at is null`)
    return open
  }
  // As long as jobs end, it may take as long as the machine needs.
  const drain = async () => {
    let open = await countOpen()
    while (open > 0) {
      const before = open
      ;({ open } = await until(async () => {
        const now = await countOpen()
        return now < before && { open: now }
      }))
    }
  }
  const readStatuses = async () =>
    Object.fromEntries(
      (await query('select status, count(*)::integer from reminder group by 1')).map((row) => [row.status, row.count]),
    )
  const startedAt = performance.now()
  await drain()
  const seconds = Math.round((performance.now() - startedAt) / 1000)
  const first = await readStatuses()
  const codes = await query(`select error ->> 'code' as code, count(*)::integer from accepted.job
    where operation = 'reminder.send' and status = 'failed' group by 1 order by 1`)
  t.same(
    codes.map(({ code }) => code).filter((code) => !['handler-error', 'smtp-rejected'].includes(code)),
    [],
    'a job fails when the server rejects the e-mail, or after three broken connections',
  )
  t.equal(
    codes.reduce((sum, { count }) => sum + count, 0),
    first.failed,
    'each row follows its job',
  )

  // An operator runs the failed jobs again. Such a job has another id, but the same reminder.
  let rounds = 0
  while ((await readStatuses()).failed) {
    rounds += 1
    await query(`select accepted.redrive('reminder.send')`)
    await drain()
  }
  t.same(await readStatuses(), { sent: reminderCount })
  const ids = await query('select message_id from reminder')
  t.same(new Set(smtp.accepted.keys()), new Set(ids.map(({ message_id }) => message_id)), 'each reminder was accepted')
  const unexplained = [...smtp.accepted].filter(
    ([messageId, times]) => times > 1 + (smtp.cutAfterData.get(messageId) ?? 0),
  )
  t.same(
    unexplained,
    [],
    'an e-mail was accepted again only if the connection died after DATA, with the same Message-ID',
  )

  const times = [...smtp.accepted.values()]
  const failed = [...smtp.faults.values()].reduce((sum, faults) => sum + faults, 0)
  t.comment(
    `${seconds} s; ${smtp.connections} connections, ${failed} failed: ${JSON.stringify(Object.fromEntries([...smtp.faults].sort()))}`,
  )
  t.comment(
    `accepted once: ${times.filter((count) => count === 1).length}, more than once: ${times.filter((count) => count > 1).length}; ` +
      `at first ${JSON.stringify(first)}, failed with ${JSON.stringify(codes)}; redriven ${rounds} times`,
  )
})
