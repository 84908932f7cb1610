import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { JobFailed, RetryAfter } from 'accepted/worker'
import { createTransport } from 'nodemailer'

export interface Mail {
  to: string
  subject: string
  text: string
  /**
   * The Message-ID. It is the same in every attempt, so that a mail program can recognize an e-mail that arrives twice.
   */
  messageId: string
}

export interface Mailer {
  /** @throws JobFailed, RetryAfter or any other error, each for `perform` to throw */
  send(mail: Mail): Promise<void>
  close(): void
}

export interface MailerOptions {
  /** Without it, the mailer writes `.eml` files. */
  smtpUrl: string | undefined
  /** Where `.eml` files are written. */
  directory: string
  /** Time to the next attempt when the server asks to try again later. */
  retrySeconds: number
}

/** A server that does not answer for so long is given up, and the attempt fails. */
const timeouts = { connectionTimeout: 5_000, greetingTimeout: 5_000, socketTimeout: 10_000 }

/** Creates a mailer that sends over SMTP or, without a URL, writes `.eml` files to a directory. */
export function createMailer({ smtpUrl, directory, retrySeconds }: MailerOptions): Mailer {
  const transport = smtpUrl
    ? createTransport({ url: smtpUrl, ...timeouts })
    : createTransport({ streamTransport: true, buffer: true, newline: 'unix' })
  return {
    async send(mail) {
      const sent = await transport
        .sendMail({ from: 'Todos <todos@example.com>', ...mail })
        .catch((error) => Promise.reject(toJobError(error, retrySeconds)))
      if (!('message' in sent)) return
      await mkdir(directory, { recursive: true })
      await writeFile(join(directory, `${mail.messageId.replace(/[<>]/g, '')}.eml`), sent.message as Buffer)
    },
    close: () => transport.close(),
  }
}

/**
 * Decides by the server's reply (RFC 5321, section 4.2.1) what becomes of the job. A 5xx reply is permanent. After a 4xx
 * reply the server wants the same e-mail later, and this costs no attempt. Without a reply, the connection has failed:
 * the operation's `retry` applies. The e-mail may have arrived then, and arrives again with the same Message-ID.
 */
function toJobError(error: unknown, retrySeconds: number): unknown {
  const { responseCode = 0 } = error as { responseCode?: number }
  if (responseCode >= 500) {
    return new JobFailed('smtp-rejected', `The mail server rejected the e-mail (${responseCode})`, { cause: error })
  }
  if (responseCode >= 400) return new RetryAfter(retrySeconds)
  return error
}
