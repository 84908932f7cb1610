import sparticuz from '@sparticuz/chromium'
import { chromium, type Page } from 'playwright-core'
import type { Test } from 'tap'

export interface Opened {
  page: Page
  /** Uncaught exceptions, and errors and warnings on the console. */
  problems: string[]
}

export interface OpenOptions {
  /** Default: true. */
  javaScriptEnabled?: boolean
  colorScheme?: 'light' | 'dark'
  width?: number
  /** What a user types when the browser asks for a name and a password. */
  httpCredentials?: { username: string; password: string }
}

/** Starts Chromium. Returns a function that opens a browser window until the test ends. */
export async function startBrowser(t: Test): Promise<(t: Test, options?: OpenOptions) => Promise<Opened>> {
  const browser = await chromium.launch({
    executablePath: await sparticuz.executablePath(),
    // The tests need the web security of the browser. The arguments that disable it are therefore removed.
    args: [
      ...sparticuz.args.filter((arg) => !/^--(disable-web-security|single-process)$/.test(arg)),
      '--disable-background-networking',
    ],
  })
  t.teardown(() => browser.close())
  return async (test, { width = 1280, ...options } = {}) => {
    // Without a locale, that of the system may be one that Intl refuses.
    const context = await browser.newContext({ locale: 'en-US', viewport: { width, height: 800 }, ...options })
    test.teardown(() => context.close())
    context.setDefaultTimeout(45_000)
    const page = await context.newPage()
    const problems: string[] = []
    page.on('pageerror', (error) => problems.push(error.message))
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) problems.push(message.text())
    })
    return { page, problems }
  }
}
