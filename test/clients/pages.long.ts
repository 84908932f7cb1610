import { join } from 'node:path'
import t from 'tap'
import { createKey } from '../../src/jobs/api-key.ts'
import { serve } from '../support/api.ts'
import { post } from '../support/client.ts'
import * as operations from './app/operations.ts'
import { startApp } from './app/start.ts'
import { startBrowser } from './browser.ts'

const app = await startApp(t)
const open = await startBrowser(t)
const screenshotDirectory = process.env.SCREENSHOTS

for (const colorScheme of ['light', 'dark'] as const) {
  t.test(`the pages of the API violate no Content-Security-Policy, ${colorScheme}`, async (t) => {
    const { body } = await post(`${app.url}/word-counts`, { text: 'one' })
    const { page, problems } = await open(t, { colorScheme })
    for (const [name, url, heading] of [
      ['docs', `${app.url}/docs`, 'API'],
      ['docs-slash', `${app.url}/docs/`, 'API'],
      ['problem', `${app.url}/docs/problems/not-found`, 'not-found'],
      ['problems', `${app.url}/docs/problems`, 'Problem types'],
      ['job', body.links.self, 'word.count'],
    ]) {
      await page.goto(url)
      await page.getByRole('heading', { name: heading }).first().waitFor()
      if (name.startsWith('docs')) {
        // Shows the schemas, the parameters and the form of an operation.
        await page.locator('.opblock-summary-control').first().click()
        await page.getByRole('button', { name: 'Try it out' }).click()
        await page.getByRole('button', { name: 'Execute' }).waitFor()
      }
      if (screenshotDirectory) await page.screenshot({ path: join(screenshotDirectory, `${name}-${colorScheme}.png`) })
      t.same(problems, [], url)
    }
  })
}

for (const javaScriptEnabled of [true, false]) {
  t.test(`a person cancels a job and runs it again, JavaScript ${javaScriptEnabled ? 'on' : 'off'}`, async (t) => {
    const id = await app.addDeferred()
    const { page, problems } = await open(t, { javaScriptEnabled, width: 360 })
    await page.goto(`${app.url}/jobs/${id}`)
    await page.getByText('It starts at').waitFor()
    await page.getByRole('button', { name: 'Cancel the job' }).click()
    await page.getByRole('heading', { name: 'word.count' }).waitFor()
    await page.locator('#status', { hasText: 'canceled' }).waitFor()
    await page.getByRole('button', { name: 'Run it again' }).click()
    await page.locator('#status', { hasText: 'succeeded' }).waitFor()
    await page.getByText('Retry of').waitFor()
    t.notMatch(page.url(), id)
    await page.goto(`${app.url}/jobs/nonsense`)
    await page.getByRole('heading', { name: 'Not found, or not yours' }).waitFor()
    // The browser reports that the page was answered with 404.
    t.same(
      problems.filter((problem) => !problem.includes('404')),
      [],
    )
  })
}

t.test('once a key exists, the browser asks for it before it shows the documentation', async (t) => {
  const { url, database } = await serve(t, { operations })
  const { key } = await database.kysely.transaction().execute((trx) => createKey(trx as never, { name: 'ann' }))
  const { page } = await open(t, { httpCredentials: { username: 'any name', password: key } })
  await page.goto(`${url}/docs`)
  await page.getByRole('heading', { name: 'API' }).first().waitFor()
})
