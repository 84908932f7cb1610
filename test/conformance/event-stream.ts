import type { OutgoingHttpHeaders } from 'node:http'
import type { Test } from 'tap'
import { until } from '../support/until.ts'

/** A block of an event stream: an event, a comment or a `retry` field. */
export interface Block {
  event?: string
  id?: string
  retry?: string
  comment?: string
  /** The data, parsed as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the data
  data?: any
}

/** An open event stream. It is read in the background. */
export interface OpenStream {
  status: number
  headers: Headers
  /** All blocks received so far. */
  blocks: Block[]
  /** Returns the received blocks that have data. */
  events(): Block[]
  /** Waits until an event matches, and returns the first event that matches. */
  event(matches: (event: Block) => unknown): Promise<Block>
  isEnded(): boolean
  /** Waits for the end of the stream. */
  end(): Promise<void>
  /** Disconnects. */
  close(): void
}

/** Opens an event stream and reads it in the background until the test ends. */
export async function openStream(t: Test, url: string, headers: OutgoingHttpHeaders = {}): Promise<OpenStream> {
  const disconnect = new AbortController()
  t.teardown(() => disconnect.abort())
  const response = await fetch(url, { headers: headers as Record<string, string>, signal: disconnect.signal })
  const blocks: Block[] = []
  let isEnded = false
  const read = async () => {
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true })
      const blockTexts = text.replaceAll(/\r\n?/g, '\n').split('\n\n')
      text = blockTexts.pop() as string
      blocks.push(...blockTexts.map(parseBlock))
    }
  }
  read()
    .catch(() => {})
    .finally(() => {
      isEnded = true
    })
  const events = () => blocks.filter(({ data }) => data !== undefined)
  return {
    status: response.status,
    headers: response.headers,
    ...{ blocks, events, isEnded: () => isEnded, close: () => disconnect.abort() },
    event: (matches) => until(() => events().find(matches)),
    end: async () => {
      await until(() => isEnded)
    },
  }
}

// Parses the fields as WHATWG HTML, section 9.2.6, specifies.
function parseBlock(text: string): Block {
  const block: Block = {}
  const data: string[] = []
  for (const line of text.split('\n')) {
    const [, field = '', value = ''] = line.match(/^([^:]*):? ?(.*)$/) ?? []
    if (field === 'data') data.push(value)
    else if (field === '') block.comment = value
    else if (field === 'event' || field === 'id' || field === 'retry') block[field] = value
  }
  if (data.length > 0) block.data = JSON.parse(data.join('\n'))
  return block
}
