// Queries as React Query and SWR make them by default: they retry, and fetch again on focus.
import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";
import useSWR from "swr";
import captcha from "./captcha.js";

async function read() {
  const answer = await captcha.fetch("/report");
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}

function Query() {
  const { data, error } = useQuery({ queryKey: ["report"], queryFn: read });
  return <p>{error?.message ?? data}</p>;
}

function SWR() {
  const { data, error } = useSWR("/report", read);
  return <p>{error?.message ?? data}</p>;
}

const pages = {
  query: (
    <QueryClientProvider client={new QueryClient()}>
      <Query />
    </QueryClientProvider>
  ),
  swr: <SWR />,
};

export const show = (name) => createRoot(document.querySelector("main")).render(pages[name]);
