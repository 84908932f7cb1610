/** What a browser shows after it has sent a request, without following redirects. */
export interface Answer {
  status: number
  headers: Headers
  location: string | null
  body: string
}

export interface Sent {
  method?: string
  /** The values of a form, which is posted. */
  form?: Record<string, string> | undefined
  headers?: Record<string, string>
}

/** Sends a request as a browser does from a page of the console. */
export async function sendAsBrowser(url: string, { method, form, headers }: Sent = {}): Promise<Answer> {
  const response = await fetch(url, {
    method: method ?? (form ? 'POST' : 'GET'),
    redirect: 'manual',
    headers: { 'sec-fetch-site': 'same-origin', ...headers },
    ...(form && { body: new URLSearchParams(form) }),
  })
  const { status, headers: received } = response
  return { status, headers: received, location: received.get('location'), body: await response.text() }
}

/** A browser that keeps the cookies of the console. */
export class ConsoleClient {
  readonly #url: string
  readonly #cookies = new Map<string, string>()

  /** @param url the URL of the API */
  constructor(url: string) {
    this.#url = url
  }

  async send(path: string, form?: Record<string, string>, headers: Record<string, string> = {}): Promise<Answer> {
    const cookie = Array.from(this.#cookies, ([name, value]) => `${name}=${value}`).join('; ')
    const answer = await sendAsBrowser(this.#url + path, { form, headers: { cookie, ...headers } })
    for (const line of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      this.#cookies.set(name, value)
    }
    return answer
  }

  /** Sends a form, follows the redirect, and returns the page. */
  async act(path: string, form: Record<string, string> = {}): Promise<string> {
    const { status, location } = await this.send(path, { back: '/console', ...form })
    if (status !== 303) throw new Error(`${path} answered ${status}`)
    return (await this.send(location as string)).body
  }

  async signIn(key: string): Promise<void> {
    const { status } = await this.send('/console/login', { key })
    if (status !== 303) throw new Error(`The login answered ${status}`)
  }
}
