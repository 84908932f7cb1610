import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createKey } from '../../src/jobs/api-key.ts'
import { serve } from '../support/api.ts'
import { beginTransaction } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { startBrowser } from './browser.ts'

const failures = 5001

const letter = defineOperation({
  name: 'letter.send',
  summary: 'Send a letter',
  input: Type.Object({ to: Type.String() }),
  retry: { limit: 0 },
})
const report = defineOperation({
  name: 'report.make',
  summary: 'Make the report of a month',
  input: Type.Object({ month: Type.String() }),
})
const operations = { letter, report }

const { url, database } = await serve(t, { operations, rateLimit: false }, undefined, 'console')
const jobs = await openJobs(t, [letter, report], database.options.url)
const { query } = jobs
const open = await startBrowser(t)
const { key } = await database.kysely
  .transaction()
  .execute((trx) => createKey(trx as never, { name: 'console', principal: 'olga', scopes: ['operate'] }))

/** Letters that have failed, and a report that no worker claims. */
await query(`select accepted.enqueue('letter.send', jsonb_build_object('to', 'ann' || n), principal => 'ann')
  from generate_series(1, ${failures}) n`)
await query(`
  update accepted.job set status = 'failed', attempt = 1, started_at = now() - interval '2 seconds', ended_at = now(),
    payload = jsonb_build_object('to', 'ann'), error = '{"code": "smtp-down", "message": "The mail server does not answer"}'
  where operation = 'letter.send'`)
await query(`delete from accepted_queue.job where name = 'letter.send'`)
const [{ id: reportId }] = await query(
  `select accepted.enqueue('report.make', '{"month": "2027-01"}', principal => 'ben', run_at => now() - interval '3 hours') as id`,
)
const handlers = defineHandlers(operations, {
  'letter.send': { settle: async () => {} },
  'report.make': {
    settle: async () => {
      throw new JobFailed('unreachable', 'No worker of this test claims reports')
    },
  },
})
await jobs.work(handlers, { operations: ['letter.send', 'jobs.bulk'] })

const screenshotDirectory = process.env.SCREENSHOTS

/** Saves what a page looks like, if SCREENSHOTS names a directory. */
async function saveScreenshots(page: Page, name: string): Promise<void> {
  if (!screenshotDirectory) return
  for (const colorScheme of ['dark', 'light'] as const) {
    for (const width of [360, 1280]) {
      await page.emulateMedia({ colorScheme })
      await page.setViewportSize({ width, height: 800 })
      await page.screenshot({ path: join(screenshotDirectory, `${name}-${width}-${colorScheme}.png`), fullPage: true })
    }
  }
}

const axe = await readFile(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8')

/** Checks the accessibility of a page with axe. */
async function check(t: Test, page: Page, name: string): Promise<void> {
  await saveScreenshots(page, name)
  await page.evaluate(axe)
  const { violations } = await page.evaluate<{
    violations: { id: string; impact: string; nodes: { html: string }[] }[]
  }>('axe.run(document, { resultTypes: ["violations"] })')
  t.same(
    violations.map(({ id, nodes }) => [id, nodes[0]?.html]),
    [],
    `axe: ${name}`,
  )
}

async function signIn(page: Page): Promise<void> {
  await page.goto(`${url}/console`)
  await page.getByLabel('API key').fill(key)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Overview' }).waitFor()
}

t.test('an operator finds the stuck job, pauses, retries, redrives with a progress bar, and resumes', async (t) => {
  const { page, problems } = await open(t)
  page.setDefaultTimeout(15_000)
  await page.goto(`${url}/console`)
  await check(t, page, 'login')
  await page.getByLabel('API key').fill('accepted_wrong')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('alert').waitFor()
  await signIn(page)
  t.equal(await page.locator('h2').first().textContent(), 'Stuck: 1', 'what is stuck comes first')
  await page.locator('.plot canvas').nth(2).waitFor()
  await check(t, page, 'overview')

  await page.locator('#stuck').getByRole('link', { name: 'report.make' }).click()
  await page.getByText('no worker claims report.make').waitFor()
  t.equal(page.url(), `${url}/console/jobs/${reportId}`)
  await check(t, page, 'job-stuck')

  await page.getByRole('link', { name: 'Operations' }).click()
  await page.getByRole('link', { name: 'letter.send' }).click()
  await page.locator('summary', { hasText: 'Pause' }).click()
  await page.getByLabel('Reason').fill('The mail server is down')
  await page.getByRole('button', { name: 'Pause', exact: true }).click()
  await page.getByText('letter.send is paused.').waitFor()
  await page.locator('#state').getByText('The mail server is down').waitFor()
  await check(t, page, 'operation-paused')

  await page.getByRole('link', { name: 'Overview' }).click()
  await page.locator('#failures').getByRole('link', { name: 'smtp-down' }).click()
  await page.getByRole('cell').getByRole('link', { name: 'letter.send' }).first().click()
  await check(t, page, 'job-failed')
  await page.getByRole('button', { name: 'Retry' }).click()
  await page.getByText('This is the new job').waitFor()
  await page.locator('#timeline').getByText('the operation is paused').waitFor()

  await page.getByRole('link', { name: 'Jobs', exact: true }).first().click()
  await page.getByLabel('Status').selectOption('failed')
  await page.getByRole('button', { name: 'Filter' }).click()
  await check(t, page, 'jobs')
  await page.getByRole('link', { name: 'Redrive all failures' }).click()
  // The preview counts for a tenth of a second at most, and then says "at least".
  await page.getByRole('heading', { name: /^This changes (at least )?[\d,]+ jobs$/ }).waitFor()
  await check(t, page, 'bulk')
  // The job stops at this failure until the lock is released.
  const [middle] = await query(
    `select id from accepted.job where status = 'failed' order by id offset ${failures / 3} limit 1`,
  )
  const lock = await beginTransaction(t, database, `select from accepted.job where id = '${middle.id}' for update`)
  await page.getByRole('button', { name: 'Redrive them' }).click()
  await page.getByText('A job does it.').waitFor()
  const bar = page.getByRole('progressbar', { name: 'Progress of the job' })
  await until(async () => Number(await bar.getAttribute('value', { timeout: 500 }).catch(() => 0)) > 0)
  t.ok(Number(await bar.getAttribute('value')) < 100)
  await check(t, page, 'job-bulk-running')
  await lock.commit()
  await page
    .locator('.title .badge', { hasText: 'succeeded' })
    .waitFor()
    .catch(async () => {
      t.comment(JSON.stringify(problems))
      t.comment(
        JSON.stringify(
          await query(`select status, message, attempt, error from accepted.job where operation = 'jobs.bulk'`),
        ),
      )
      t.comment(JSON.stringify(await query(`select * from accepted.attempt`)))
      t.comment(await page.locator('main').innerText())
    })
  await page.getByText(`"changed": ${failures - 1}`).waitFor()
  await check(t, page, 'job-bulk')
  const waiting = `select count(*)::int as jobs from accepted.job where operation = 'letter.send' and status = 'queued'`
  t.same(await query(waiting), [{ jobs: failures }], 'each failure has one retry, which waits')

  await page.goto(`${url}/console/operations/letter.send`)
  await page.getByRole('button', { name: 'Resume' }).click()
  await page.getByText('letter.send is resumed.').waitFor()
  await until(async () => (await query(waiting))[0].jobs === 0)
  await page.goto(`${url}/console/workers`)
  await check(t, page, 'workers')
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByText('You have signed out.').waitFor()
  t.same(
    problems.filter((problem) => !problem.includes('401')),
    [],
  )
  t.same(
    await query(`select distinct action, principal from accepted.audit where principal is not null order by action`),
    ['bulk.redrive', 'pause', 'resume', 'retry'].map((action) => ({ action, principal: 'olga' })),
  )
})

t.test('the pages fit a small screen and work without scripts', async (t) => {
  const { page, problems } = await open(t, { width: 360, colorScheme: 'dark', javaScriptEnabled: false })
  await signIn(page)
  const paths = ['', '/jobs', `/jobs/${reportId}`, '/operations', '/operations/letter.send', '/workers', '/stuck']
  for (const path of paths) {
    await page.goto(`${url}/console${path}`)
    t.equal(await page.evaluate('document.documentElement.scrollWidth'), 360, `/console${path}`)
  }
  await page.goto(`${url}/console/jobs`)
  const fields = await page.locator('.filter :is(input, select)').all()
  const heights = await Promise.all(fields.map(async (field) => (await field.boundingBox())?.height))
  t.ok(heights.length > 5)
  t.equal(new Set(heights).size, 1, 'fields of each kind have the same height')
  await page.goto(`${url}/console/jobs/${reportId}`)
  await page.locator('summary', { hasText: 'Cancel' }).click()
  await page.getByRole('button', { name: 'Cancel', exact: true }).click()
  await page.getByText('The job is canceled.').waitFor()
  t.same(problems, [])
})
