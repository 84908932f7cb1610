/** A server-sent event (WHATWG HTML, section 9.2), or only a new reconnection time. */
export interface StreamEvent {
  name: string
  /** Parsed JSON; undefined if the event has no data. */
  data: unknown
  /** When to reconnect after the stream has ended, in milliseconds. */
  retryMs: number | undefined
}

/** The client does not wait for the end of a longer event, which may never come: it reads the status instead. */
const maxEventLength = 2 ** 22

/**
 * Makes a function that finds the events in the chunks of a stream. An event may span several chunks. The function
 * throws a SyntaxError or a RangeError if the events are not from the API.
 */
export function createEventParser(): (chunk: Uint8Array | undefined) => StreamEvent[] {
  const decoder = new TextDecoder()
  let rest = ''
  return (chunk) => {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n')
    rest = blocks.pop() as string
    if (rest.length > maxEventLength) throw new RangeError('The event is too long')
    return blocks.map(parseEvent)
  }
}

function parseEvent(block: string): StreamEvent {
  const event: StreamEvent = { name: '', data: undefined, retryMs: undefined }
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':')
    const [field, value] = [line.slice(0, colon), line.slice(colon + 1).trim()]
    if (field === 'event') event.name = value
    // The API puts the data of an event into one line.
    if (field === 'data') event.data = JSON.parse(value)
    if (field === 'retry') event.retryMs = Number(value)
  }
  return event
}
