import type { Deadline } from './deadline.ts'
import { responseError } from './error.ts'
import type { Transport } from './transport.ts'

const maxRedirects = 5

/** Reads the resource of a job: parsed JSON, or a Blob for any other media type. */
export function readResource(transport: Transport, location: string, deadline: Deadline): Promise<unknown> {
  return transport.repeat(deadline, async () => {
    let url = new URL(location)
    for (let redirects = 0; ; redirects++) {
      const answer = await transport.send(url, { headers: accept }, deadline, async (response, unlimit) => {
        // A browser hides where an opaque redirect leads.
        const target = response.status >= 300 && response.status < 400 && response.headers.get('location')
        if (target && redirects < maxRedirects) return { next: new URL(target, url) }
        if (!response.ok) throw await responseError(response)
        return { body: await readBody(response, unlimit) }
      })
      if (!answer.next) return answer.body
      url = answer.next
    }
  })
}

const accept = { accept: 'application/json, */*;q=0.9' }

async function readBody(response: Response, unlimit: () => void): Promise<unknown> {
  if (response.status === 204) return undefined
  if (/[/+]json\b/.test(response.headers.get('content-type') ?? '')) return response.json()
  // A file may be large.
  unlimit()
  return response.blob()
}
