import { join } from 'node:path'
import sparticuz from '@sparticuz/chromium'
import { chromium, type Locator, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { post } from '../support/client.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { metric, startApp } from './app/start.ts'

const app = await startApp(t)
const browser = await chromium.launch({
  executablePath: await sparticuz.executablePath(),
  // What the browser guards by itself is to be guarded here, too.
  args: [
    ...sparticuz.args.filter((arg) => !/^--(disable-web-security|single-process)$/.test(arg)),
    '--disable-background-networking',
  ],
})
t.teardown(() => browser.close())

interface Opened {
  page: Page
  /** Violations of the Content-Security-Policy, exceptions, and errors on the console. */
  complaints: string[]
}

interface OpenOptions {
  /** Default: true. */
  javaScriptEnabled?: boolean
  colorScheme?: 'light' | 'dark'
  width?: number
}

/** A browser window of the test's own. */
async function open(t: Test, { width = 1280, ...options }: OpenOptions = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width, height: 800 }, ...options })
  t.teardown(() => context.close())
  context.setDefaultTimeout(45_000)
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
  })
  return { page, complaints }
}

const submit = async (path: string, body: object) => (await post(app.url + path, body)).body

/** Waits until an element says this. */
const says = (element: Locator, text: string) =>
  until(async () => (await element.isVisible()) && (await element.textContent())?.includes(text))

/** The element with an id; hidden ones count as absent. */
const at = (page: Page, id: string) => page.locator(`#${id}`)

const hasMoved = (page: Page) => page.evaluate<boolean>('window.here !== true')

t.test('its EventSource follows a job to its end and stops', async (t) => {
  const { links } = await submit('/renderings', { name: 'followed' })
  const { page } = await open(t)
  const answers: number[] = []
  page.on('response', (response) => {
    if (response.url() === links.events) answers.push(response.status())
  })
  await page.goto(`${app.url}/health/live`)
  await page.evaluate(`
    told = []
    source = new EventSource('${links.events}')
    for (const type of ['status', 'progress']) {
      source.addEventListener(type, ({ data, lastEventId }) => told.push({ type, lastEventId, ...JSON.parse(data) }))
    }`)
  await page.waitForFunction("told.some(({ status }) => status === 'running')")
  await app.steer('followed', { percent: 50, message: 'half way' })
  await page.waitForFunction("told.some(({ type, message }) => type === 'progress' && message === 'half way')")
  await app.steer('followed', { ending: 'succeed' })
  await page.waitForFunction('source.readyState === EventSource.CLOSED')
  const told = await page.evaluate<{ lastEventId: string; sequence: number }[]>('told')
  t.match(told.at(-1), { type: 'status', status: 'succeeded' })
  t.ok(told.every(({ lastEventId, sequence }) => lastEventId === String(sequence)))
  t.same(answers, [200, 204])
})

t.test('the page of a job goes on without a reload and ends with a link that works', async (t) => {
  const { id, links } = await submit('/renderings', { name: 'shown' })
  const { page, complaints } = await open(t)
  await page.goto(links.self)
  await page.evaluate('window.here = true')
  await says(at(page, 'status'), 'running')
  t.equal(await page.getByRole('heading').textContent(), 'document.render')
  const bar = page.getByRole('progressbar', { name: 'Progress' })
  t.equal(await bar.getAttribute('value'), null, 'unknown yet')
  await app.steer('shown', { percent: 40, message: '4,000 of 10,000 rows' })
  await says(at(page, 'message'), '4,000 of 10,000 rows')
  t.equal(await bar.getAttribute('value'), '40')
  t.equal(await at(page, 'percent').textContent(), '40 %')
  t.equal(await page.title(), 'running · document.render')
  t.notOk(await at(page, 'outcome').isVisible())
  t.match(await page.getByRole('status').textContent(), /running[\s\S]*4,000 of 10,000 rows/, 'in a live region')
  await app.steer('shown', { ending: 'succeed' })
  await says(at(page, 'status'), 'succeeded')
  t.equal(await page.title(), 'succeeded · document.render')
  t.notOk(await hasMoved(page))
  await until(async () => (await metric(app, 'accepted_event_streams')) === 0)
  await page.getByRole('link', { name: 'result' }).click()
  await page.waitForURL(`${app.url}/documents/${id}`)
  t.match(JSON.parse(await page.locator('body').innerText()), { id, text: 'shown' })
  t.same(complaints, [])
})

t.test('the page goes on when the connection was cut', async (t) => {
  const proxy = await startProxy(t, app.url)
  const { links } = (await post(`${proxy.url}renderings`, { name: 'cut' })).body
  const { page } = await open(t)
  await page.goto(links.self)
  await page.evaluate('window.here = true')
  await says(at(page, 'status'), 'running')
  await proxy.close()
  await app.steer('cut', { percent: 40, message: 'behind its back' })
  await proxy.open()
  await says(at(page, 'message'), 'behind its back')
  await app.steer('cut', { ending: 'succeed' })
  await says(at(page, 'status'), 'succeeded')
  t.notOk(await hasMoved(page))
})

t.test('the page stays while the API is away, and comes back with it', async (t) => {
  const { links } = await submit('/renderings', { name: 'away' })
  const { page } = await open(t)
  const answers: string[] = []
  page.on('response', (response) => {
    answers.push(`${response.request().method()} ${response.status()}`)
  })
  let isAway = true
  // As from a load balancer that has nobody to ask.
  await page.route(/\/jobs\//, (route) =>
    isAway && answers.length > 0 ? route.fulfill({ status: 502, body: 'Bad gateway' }) : route.continue(),
  )
  await page.goto(links.self)
  await page.evaluate('window.here = true')
  await until(() => answers.includes('HEAD 502'))
  t.notOk(await hasMoved(page))
  t.ok(await at(page, 'status').isVisible())
  isAway = false
  await until(() => hasMoved(page).catch(() => false))
  await app.steer('away', { ending: 'succeed' })
  await says(at(page, 'status'), 'succeeded')
})

t.test('its WebSocket is served to our own pages only', async (t) => {
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

t.test('the page of a job refreshes itself to the end where there is no script', async (t) => {
  const { id, links } = await submit('/renderings', { name: 'no script' })
  const { page, complaints } = await open(t, { javaScriptEnabled: false })
  await page.goto(links.self)
  await says(at(page, 'status'), 'running')
  await app.steer('no script', { percent: 40, message: '4,000 of 10,000 rows' })
  await says(at(page, 'message'), '4,000 of 10,000 rows')
  t.equal(await page.getByRole('progressbar', { name: 'Progress' }).getAttribute('value'), '40')
  await app.steer('no script', { ending: 'succeed' })
  await says(at(page, 'status'), 'succeeded')
  t.equal(await page.locator('meta[http-equiv=refresh]').count(), 0, 'it does so no more')
  await page.getByRole('link', { name: 'result' }).click()
  await page.waitForURL(`${app.url}/documents/${id}`)
  t.same(complaints, [])
})

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? 'with script' : 'without script'

  t.test(`the page shows why a job failed, ${how}`, async (t) => {
    const name = `fails ${how}`
    const { links } = await submit('/renderings', { name })
    const { page, complaints } = await open(t, { javaScriptEnabled })
    await page.goto(links.self)
    await says(at(page, 'status'), 'running')
    await app.steer(name, { percent: 40, message: 'Printing' })
    await says(at(page, 'percent'), '40 %')
    await app.steer(name, { ending: 'fail', message: 'The printer is out of ink' })
    await says(page.getByRole('alert'), 'The printer is out of ink (rendering-failed)')
    t.equal(await at(page, 'status').textContent(), 'failed')
    t.notOk(await page.getByRole('progressbar').isVisible())
    t.notOk(await at(page, 'percent').isVisible(), 'how far it came says nothing any more')
    t.notOk(await page.getByRole('link').isVisible())
    t.same(complaints, [])
  })

  t.test(`the page shows that a job was canceled, ${how}`, async (t) => {
    const { links } = await submit('/renderings', { name: 'canceled' })
    const { page, complaints } = await open(t, { javaScriptEnabled })
    await page.goto(links.self)
    await says(at(page, 'status'), 'running')
    t.equal((await post(links.cancel, {})).status, 202)
    await until(async () => (await at(page, 'status').textContent()) === 'canceled')
    t.notOk(await page.getByRole('link').isVisible())
    t.same(complaints, [])
  })

  t.test(`HTML in messages is shown as text, ${how}`, async (t) => {
    const html = '<b>bold</b><img src="/x" onerror="window.ran = true"><script>window.ran = true</script>&amp;'
    const name = `html ${how}`
    const { links } = await submit('/renderings', { name })
    const { page, complaints } = await open(t, { javaScriptEnabled })
    await page.goto(links.self)
    await says(at(page, 'status'), 'running')
    const hasOnlyText = async (id: string) => {
      t.equal(await at(page, id).locator('*').count(), 0)
      t.equal(await page.evaluate('window.ran'), undefined)
    }
    await app.steer(name, { percent: 50, message: html })
    await says(at(page, 'message'), html)
    await hasOnlyText('message')
    await page.reload()
    await says(at(page, 'message'), html)
    await hasOnlyText('message')
    await app.steer(name, { ending: 'fail', message: html })
    await says(page.getByRole('alert'), html)
    await hasOnlyText('error')
    await page.reload()
    await says(page.getByRole('alert'), html)
    await hasOnlyText('error')
    t.same(complaints, [])
  })
}

t.test('the page runs no script but its own', async (t) => {
  const { links } = await submit('/word-counts', { text: 'one' })
  const { page, complaints } = await open(t)
  await page.goto(links.self)
  await page.evaluate(`
    script = document.createElement('script')
    script.textContent = 'window.ran = true'
    document.body.append(script)`)
  t.equal(await page.evaluate('window.ran'), undefined)
  await until(() => complaints.length > 0)
  t.match(complaints, [/Content.Security.Policy/i])
})

/** How far each visible text stands out from what it is on (WCAG 2.2, 1.4.3), and what it is on. */
const contrasts = `(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number)
  const luminance = (color) => {
    const [r, g, b] = parse(color).map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ground = (element) => {
    const color = getComputedStyle(element).backgroundColor
    return parse(color)[3] === 0 ? ground(element.parentElement) : color
  }
  const isText = (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== ''
  return [...document.querySelectorAll('body *')]
    .filter((element) => element.checkVisibility() && [...element.childNodes].some(isText))
    .map((element) => {
      const on = ground(element)
      const [light, dark] = [getComputedStyle(element).color, on].map(luminance).toSorted((a, b) => b - a)
      return { text: element.textContent, on, contrast: (light + 0.05) / (dark + 0.05) }
    })
})()`

interface Contrast {
  text: string
  on: string
  contrast: number
}

const directory = process.env.SCREENSHOTS

/** For people to look at, when they ask for it: SCREENSHOTS names a directory. */
async function photograph(page: Page, name: string): Promise<void> {
  if (directory) await page.screenshot({ path: join(directory, `page-${name}.png`) })
}

const longWord = 'https://example.com/'.padEnd(200, '0123456789abcdef')

t.test('the page fits a small screen, and can be read in the light and in the dark', async (t) => {
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
          const { page, complaints } = await open(t, { colorScheme, width })
          await page.goto(links.self)
          return { page, complaints, colorScheme, width }
        }),
      ),
    )
    await app.steer(name, { percent: 40, message, ending })
    const state = ending === null ? 'running' : `${ending}ed`
    const grounds = new Map<string, string>()
    for (const { page, complaints, colorScheme, width } of pages) {
      if (ending === null) await says(at(page, 'message'), message)
      else await says(at(page, 'status'), state)
      const shown = `${state}, ${colorScheme}, ${width} px`
      t.ok(
        (await page.evaluate<number>('document.documentElement.scrollWidth')) <= width,
        `nothing is cut off: ${shown}`,
      )
      const texts = await page.evaluate<Contrast[]>(contrasts)
      t.ok(texts.length >= 8, `there are texts: ${shown}`)
      t.same(
        texts.filter(({ contrast }) => contrast < 4.5),
        [],
        `every text can be read: ${shown}`,
      )
      grounds.set(colorScheme, texts[0]?.on as string)
      t.same(complaints, [])
      await photograph(page, `${width}-${colorScheme}-${state}`)
    }
    t.not(grounds.get('light'), grounds.get('dark'))
    if (ending === null) await app.steer(name, { ending: 'succeed' })
  }
})
