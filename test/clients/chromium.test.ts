import { join } from 'node:path'
import type { Locator, Page } from 'playwright-core'
import t from 'tap'
import { post } from '../support/client.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { metric, startApp } from './app/start.ts'
import { startBrowser } from './browser.ts'

const app = await startApp(t)
const open = await startBrowser(t)

const submit = async (path: string, body: object) => (await post(app.url + path, body)).body

/** Waits until an element is visible and contains the given text. */
const untilShows = (element: Locator, text: string) =>
  until(async () => (await element.isVisible()) && (await element.textContent())?.includes(text))

/** Returns the element with the given id. */
const byId = (page: Page, id: string) => page.locator(`#${id}`)

/** Returns whether the page has been reloaded since `window.marked` was set. */
const hasReloaded = (page: Page) => page.evaluate<boolean>('window.marked !== true')

t.test('the EventSource of Chromium follows a job until the job ends, and then stops', async (t) => {
  const { links } = await submit('/renderings', { name: 'followed' })
  const { page } = await open(t)
  const statuses: number[] = []
  page.on('response', (response) => {
    if (response.url() === links.events) statuses.push(response.status())
  })
  // Only a page may open an event stream: the headers of other answers forbid connections.
  const other = await submit('/renderings', { name: 'other' })
  await page.goto(other.links.self)
  await page.evaluate(`
    events = []
    source = new EventSource('${links.events}')
    for (const type of ['status', 'progress']) {
      source.addEventListener(type, ({ data, lastEventId }) => events.push({ type, lastEventId, ...JSON.parse(data) }))
    }`)
  await until(() => page.evaluate<boolean>("events.some(({ status }) => status === 'running')"))
  await app.steer('followed', { percent: 50, message: 'half way' })
  await until(() =>
    page.evaluate<boolean>("events.some(({ type, message }) => type === 'progress' && message === 'half way')"),
  )
  await app.steer('followed', { ending: 'succeed' })
  await until(() => page.evaluate<boolean>('source.readyState === EventSource.CLOSED'))
  const events = await page.evaluate<{ lastEventId: string; sequence: number }[]>('events')
  t.match(events.at(-1), { type: 'status', status: 'succeeded' })
  t.ok(events.every(({ lastEventId, sequence }) => lastEventId === String(sequence)))
  t.same(statuses, [200, 204])
})

t.test('the job page shows each change of the job without reloading, and finally a link to the result', async (t) => {
  const { id, links } = await submit('/renderings', { name: 'shown' })
  const { page, problems } = await open(t)
  await page.goto(links.self)
  await page.evaluate('window.marked = true')
  await untilShows(byId(page, 'status'), 'running')
  t.equal(await page.getByRole('heading').textContent(), 'document.render')
  const bar = page.getByRole('progressbar', { name: 'Progress' })
  t.equal(await bar.getAttribute('value'), null, 'the progress is unknown')
  await app.steer('shown', { percent: 40, message: '4,000 of 10,000 rows' })
  await untilShows(byId(page, 'message'), '4,000 of 10,000 rows')
  t.equal(await bar.getAttribute('value'), '40')
  t.equal(await byId(page, 'percent').textContent(), '40 %')
  t.equal(await page.title(), 'running · document.render')
  t.notOk(await byId(page, 'outcome').isVisible())
  t.match(
    await page.getByRole('status').textContent(),
    /running[\s\S]*4,000 of 10,000 rows/,
    'the status and the message are in a live region',
  )
  await app.steer('shown', { ending: 'succeed' })
  await untilShows(byId(page, 'status'), 'succeeded')
  t.equal(await page.title(), 'succeeded · document.render')
  t.notOk(await hasReloaded(page))
  await until(async () => (await metric(app, 'accepted_event_streams')) === 0)
  await page.getByRole('link', { name: 'result' }).click()
  await page.waitForURL(`${app.url}/documents/${id}`)
  t.match(JSON.parse(await page.locator('body').innerText()), { id, text: 'shown' })
  t.same(problems, [])
})

t.test('the job page shows changes again after its connection was cut', async (t) => {
  const proxy = await startProxy(t, app.url)
  const { links } = (await post(`${proxy.url}renderings`, { name: 'cut' })).body
  const { page } = await open(t)
  await page.goto(links.self)
  await page.evaluate('window.marked = true')
  await untilShows(byId(page, 'status'), 'running')
  await proxy.close()
  await app.steer('cut', { percent: 40, message: 'while disconnected' })
  await proxy.open()
  await untilShows(byId(page, 'message'), 'while disconnected')
  await app.steer('cut', { ending: 'succeed' })
  await untilShows(byId(page, 'status'), 'succeeded')
  t.notOk(await hasReloaded(page))
})

t.test('the job page stays visible while the API is unavailable, and reloads itself afterwards', async (t) => {
  const { links } = await submit('/renderings', { name: 'unavailable' })
  const { page } = await open(t)
  const responses: string[] = []
  page.on('response', (response) => {
    responses.push(`${response.request().method()} ${response.status()}`)
  })
  let isUnavailable = true
  // Simulates a load balancer whose API processes are all unavailable.
  await page.route(/\/jobs\//, (route) =>
    isUnavailable && responses.length > 0 ? route.fulfill({ status: 502, body: 'Bad gateway' }) : route.continue(),
  )
  await page.goto(links.self)
  await page.evaluate('window.marked = true')
  await until(() => responses.includes('HEAD 502'))
  t.notOk(await hasReloaded(page))
  t.ok(await byId(page, 'status').isVisible())
  isUnavailable = false
  await until(() => hasReloaded(page).catch(() => false))
  await app.steer('unavailable', { ending: 'succeed' })
  await untilShows(byId(page, 'status'), 'succeeded')
})

t.test('only a web page of the same origin can open a WebSocket', async (t) => {
  const { id, links } = await submit('/word-counts', { text: 'one' })
  const connect = (page: Page) =>
    page.evaluate<string>(`new Promise((resolve) => {
      const socket = new WebSocket('${app.url.replace('http', 'ws')}/events', 'cloudevents.json')
      socket.onopen = () => socket.send(JSON.stringify({ subscribe: ['${id}'] }))
      socket.onmessage = ({ data }) => resolve(JSON.parse(data).subject)
      socket.onclose = () => resolve('refused')
    })`)
  const { page } = await open(t)
  await page.goto(links.self)
  t.equal(await connect(page), id)
  await page.goto('about:blank')
  t.equal(await connect(page), 'refused')
})

t.test('without JavaScript, the job page reloads itself until the job has ended', async (t) => {
  const { id, links } = await submit('/renderings', { name: 'no script' })
  const { page, problems } = await open(t, { javaScriptEnabled: false })
  await page.goto(links.self)
  await untilShows(byId(page, 'status'), 'running')
  await app.steer('no script', { percent: 40, message: '4,000 of 10,000 rows' })
  await untilShows(byId(page, 'message'), '4,000 of 10,000 rows')
  t.equal(await page.getByRole('progressbar', { name: 'Progress' }).getAttribute('value'), '40')
  await app.steer('no script', { ending: 'succeed' })
  await untilShows(byId(page, 'status'), 'succeeded')
  t.equal(await page.locator('meta[http-equiv=refresh]').count(), 0, 'the page no longer reloads itself')
  await page.getByRole('link', { name: 'result' }).click()
  await page.waitForURL(`${app.url}/documents/${id}`)
  t.same(problems, [])
})

for (const javaScriptEnabled of [true, false]) {
  const mode = javaScriptEnabled ? 'with JavaScript' : 'without JavaScript'

  t.test(`the job page shows why a job failed, ${mode}`, async (t) => {
    const name = `fails ${mode}`
    const { links } = await submit('/renderings', { name })
    const { page, problems } = await open(t, { javaScriptEnabled })
    await page.goto(links.self)
    await untilShows(byId(page, 'status'), 'running')
    await app.steer(name, { percent: 40, message: 'Printing' })
    await untilShows(byId(page, 'percent'), '40 %')
    await app.steer(name, { ending: 'fail', message: 'The printer is out of ink' })
    await untilShows(page.getByRole('alert'), 'The printer is out of ink (rendering-failed)')
    t.equal(await byId(page, 'status').textContent(), 'failed')
    t.notOk(await page.getByRole('progressbar').isVisible())
    t.notOk(await byId(page, 'percent').isVisible(), 'the percentage is hidden after a failure')
    t.notOk(await page.getByRole('link').isVisible())
    t.same(problems, [])
  })

  t.test(`the job page shows that a job was canceled, ${mode}`, async (t) => {
    const { links } = await submit('/renderings', { name: 'canceled' })
    const { page, problems } = await open(t, { javaScriptEnabled })
    await page.goto(links.self)
    await untilShows(byId(page, 'status'), 'running')
    t.equal((await post(links.cancel, {})).status, 202)
    await until(async () => (await byId(page, 'status').textContent()) === 'canceled')
    t.notOk(await page.getByRole('link').isVisible())
    t.same(problems, [])
  })

  t.test(`the job page shows HTML in messages as text, ${mode}`, async (t) => {
    const html = '<b>bold</b><img src="/x" onerror="window.ran = true"><script>window.ran = true</script>&amp;'
    const name = `html ${mode}`
    const { links } = await submit('/renderings', { name })
    const { page, problems } = await open(t, { javaScriptEnabled })
    await page.goto(links.self)
    await untilShows(byId(page, 'status'), 'running')
    const hasOnlyText = async (id: string) => {
      t.equal(await byId(page, id).locator('*').count(), 0)
      t.equal(await page.evaluate('window.ran'), undefined)
    }
    await app.steer(name, { percent: 50, message: html })
    await untilShows(byId(page, 'message'), html)
    await hasOnlyText('message')
    await page.reload()
    await untilShows(byId(page, 'message'), html)
    await hasOnlyText('message')
    await app.steer(name, { ending: 'fail', message: html })
    await untilShows(page.getByRole('alert'), html)
    await hasOnlyText('error')
    await page.reload()
    await untilShows(page.getByRole('alert'), html)
    await hasOnlyText('error')
    t.same(problems, [])
  })
}

t.test('the job page does not run a script that is added to the page', async (t) => {
  const { links } = await submit('/word-counts', { text: 'one' })
  const { page, problems } = await open(t)
  await page.goto(links.self)
  await page.evaluate(`
    script = document.createElement('script')
    script.textContent = 'window.ran = true'
    document.body.append(script)`)
  t.equal(await page.evaluate('window.ran'), undefined)
  await until(() => problems.length > 0)
  t.match(problems, [/Content.Security.Policy/i])
})

/** A script that measures the contrast between each visible text and its background (WCAG 2.2, 1.4.3). */
const contrasts = `(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number)
  const luminance = (color) => {
    const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    const [r, g, b] = parse(color).map((part) => linear(part / 255))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const backgroundOf = (element) => {
    const color = getComputedStyle(element).backgroundColor
    return parse(color)[3] === 0 ? backgroundOf(element.parentElement) : color
  }
  const isText = (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== ''
  return [...document.querySelectorAll('body *')]
    .filter((element) => element.checkVisibility() && [...element.childNodes].some(isText))
    .map((element) => {
      const background = backgroundOf(element)
      const [light, dark] = [getComputedStyle(element).color, background].map(luminance).toSorted((a, b) => b - a)
      return { text: element.textContent, background, contrast: (light + 0.05) / (dark + 0.05) }
    })
})()`

interface Contrast {
  text: string
  background: string
  contrast: number
}

const screenshotDirectory = process.env.SCREENSHOTS

/** Saves a screenshot in the directory that SCREENSHOTS names. Does nothing if SCREENSHOTS is not set. */
async function saveScreenshot(page: Page, name: string): Promise<void> {
  if (screenshotDirectory) await page.screenshot({ path: join(screenshotDirectory, `page-${name}.png`) })
}

const longWord = 'https://example.com/'.padEnd(200, '0123456789abcdef')

t.test('the job page fits a small screen and has enough contrast in light and dark mode', async (t) => {
  for (const [ending, message] of [
    [null, `4,000 of 10,000 rows of ${longWord}`],
    ['succeed', ''],
    ['fail', `The address cannot be reached: ${longWord}`],
  ] as const) {
    const name = `fits ${ending}`
    const { links } = await submit('/renderings', { name })
    await app.steer(name, { percent: 40, message: 'Reading the rows', ending: null })
    const pages = await Promise.all(
      (['light', 'dark'] as const).flatMap((colorScheme) =>
        [320, 1280].map(async (width) => {
          const { page, problems } = await open(t, { colorScheme, width })
          await page.goto(links.self)
          return { page, problems, colorScheme, width }
        }),
      ),
    )
    await app.steer(name, { percent: 40, message, ending })
    const jobStatus = ending === null ? 'running' : `${ending}ed`
    const backgrounds = new Map<string, string>()
    for (const { page, problems, colorScheme, width } of pages) {
      if (ending === null) await untilShows(byId(page, 'message'), message)
      else await untilShows(byId(page, 'status'), jobStatus)
      const shown = `${jobStatus}, ${colorScheme}, ${width} px`
      t.ok(
        (await page.evaluate<number>('document.documentElement.scrollWidth')) <= width,
        `the page does not overflow: ${shown}`,
      )
      const texts = await page.evaluate<Contrast[]>(contrasts)
      t.ok(texts.length >= 8, `the page contains texts: ${shown}`)
      t.same(
        texts.filter(({ contrast }) => contrast < 4.5),
        [],
        `every text has enough contrast: ${shown}`,
      )
      backgrounds.set(colorScheme, texts[0]?.background as string)
      t.same(problems, [])
      await saveScreenshot(page, `${width}-${colorScheme}-${jobStatus}`)
    }
    t.not(backgrounds.get('light'), backgrounds.get('dark'))
    if (ending === null) await app.steer(name, { ending: 'succeed' })
  }
})
